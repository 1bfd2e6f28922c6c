"""A speaker of walks: its loss against a plain loop, what it learns to say, and an agent that is taught by it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mmkd_cli.cli.options import file_layers
from mmkd_cli.core.config import Layer, resolve
from mmkd_cli.core.contracts import Position
from mmkd_cli.stages import finetune
from mmkd_cli.students.envdrop import EnvDrop, EnvDropConfig
from mmkd_cli.students.speaker import Speaker, SpeakerConfig
from mmkd_cli.tasks.navigation import COUNTED, R2rTuning, R2rTuningConfig
from mmkd_cli.tasks.speaking import SpeakerTuning, SpeakerTuningConfig
from mmkd_cli.training.config import TrainConfig
from tests.tasks.test_navigation import SMALL as AGENT
from tests.tasks.test_navigation import instructed, plain

SMALL = SpeakerConfig(word_width=8, width=16, angle_width=8, dropout=0.0, max_words=12)
AT = Position(0, 0, 0)


def built(folder: Path) -> SpeakerTuning:
    config = SimpleNamespace(task=SpeakerTuningConfig(least=1, feature_dropout=0.0), train=TrainConfig(), student=SMALL)
    return SpeakerTuning.build(config, [instructed(folder)], None, "cpu")


def test_a_texts_loss_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    made = built(tmp_path)
    made.model.eval()
    rows = np.array([0, 7, 20])
    whole = made.forward(made.feeds[0].load(rows, AT)).row_losses["cross_entropy"]
    for place, row in enumerate(rows):
        alone = made.forward(made.feeds[0].load(np.array([row]), AT)).row_losses["cross_entropy"]
        torch.testing.assert_close(alone, whole[place : place + 1])


def test_the_loss_is_that_of_each_word_after_those_before(tmp_path: Path) -> None:
    made = built(tmp_path)
    model: Any = made.model.eval()
    batch = made.feeds[0].load(np.array([3]), AT)
    watched = model.watch(made.steps, batch["route"], batch["view"], plain)
    ids, memory, total = batch["input_ids"][0][batch["attention_mask"][0].bool()], None, torch.zeros(())
    for word, following in pairwise(ids):
        scores, memory = model.net(*watched, word.view(1, 1), memory)
        total = total - scores[0, 0].log_softmax(0)[following]
    torch.testing.assert_close(made.forward(batch).row_losses["cross_entropy"][0], total)
    assert made.counts(batch) == {"cross_entropy": len(ids) - 1}


def test_it_learns_to_say_where_a_walk_ends(tmp_path: Path) -> None:
    made = built(tmp_path)
    model: Any = made.model
    optimizer, rng = torch.optim.Adam(model.parameters(), 1e-2), np.random.default_rng(0)
    torch.manual_seed(0)
    for _ in range(150):
        batch = made.feeds[0].load(rng.choice(made.feeds[0].rows, 24, replace=False), AT)
        (made.forward(batch).row_losses["cross_entropy"].sum() / made.counts(batch)["cross_entropy"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    batch = made.feeds[0].load(np.arange(0, 72, 3), AT)
    said = model.say(model.watch(made.steps, batch["route"], batch["view"], plain))
    names = made.steps.houses.names[batch["goal"].numpy()]
    assert all(text.startswith("walk to room ") for text in said)
    right = np.mean([text.split()[3] == name[1:] for text, name in zip(said, names, strict=True)])
    assert right > 0.5  # by chance about one in ten


@pytest.mark.parametrize("environment", [False, True])
def test_an_agent_is_taught_by_it(tmp_path: Path, environment: bool) -> None:
    spoken = built(tmp_path / "a")
    spoken.save(tmp_path / "speaker")
    keys = {"least": 1, "speaker": str(tmp_path / "speaker"), "environment_dropout": environment, "augmented_rows": 40}
    config = SimpleNamespace(task=R2rTuningConfig(**keys), train=TrainConfig(), student=AGENT)
    assert R2rTuning.runs(config) == {"task.speaker": str(tmp_path / "speaker")} and not R2rTuning.files(config)
    made = R2rTuning.build(config, [instructed(tmp_path / "b")], None, "cpu")
    own, sampled = made.feeds
    assert (own.stream, sampled.stream, sampled.rows) == ("", "augmented", 40)
    batch = sampled.load(np.arange(5), AT)
    again = sampled.load(np.arange(4, -1, -1), AT)
    for name, value in batch.items():
        assert torch.equal(value.flip(0), again[name])
    houses = made.steps.houses
    for route, goal in zip(batch["route"].tolist(), batch["goal"].tolist(), strict=True):
        walked = [node for node in route if node >= 0]
        assert 5 <= len(walked) <= 7 and walked[-1] == goal and set(houses.scans[walked]) <= {"A", "B"}
        assert walked == houses.shortest_path(walked[0], goal)
    before = {name: value.clone() for name, value in made.frozen[0].state_dict().items()}
    said = made.forward(batch)
    assert said.row_losses.keys() == {f"augmented_{name}" for name in ("imitation", "policy", "critic", "entropy")}
    assert said.row_losses.keys() < made.weights.keys() and made.weights["augmented_imitation"] == 0.6
    torch.cat([*said.row_losses.values()]).sum().backward()
    assert all(p.grad is None for p in made.frozen[0].parameters())
    assert any(p.grad is not None for p in made.model.parameters())
    for name, value in made.frozen[0].state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", ["back-translation", "rxr"])
def test_a_preset_fits_its_task(name: str) -> None:
    found = resolve(finetune.Config, [*file_layers("finetune", None, name, "r2r"), Layer("test", {"task": "r2r"})])
    config = found.config
    assert config.train.optimizer == "rmsprop" and config.train.clip_norm == 40 and config.student.name == "envdrop"
    assert (config.task.environment_dropout, config.task.feature_dropout) == (
        (True, 0.4) if name != "rxr" else (False, 0.3)
    )
    assert (config.student.max_words, config.task.imitation_weight) == ((80, 0.2) if name != "rxr" else (160, 0.4))


def test_full_size_counts() -> None:
    """By hand, of EnvDrop's layers on 512 channels (CLIP ViT-B/32) and about R2R's words."""
    width, seen, words, angles = 512, 512 + 128, COUNTED + 4, 128
    lstm = lambda inputs, hidden: 4 * hidden * (inputs + hidden + 2)  # noqa: E731
    reader = words * 256 + 2 * lstm(256, width // 2) + width * width + width
    walker = angles * 64 + 64 + 2 * width * seen + lstm(64 + seen, width) + width * width + 2 * width * width
    critic = width * width + width + width + 1
    assert sum(p.numel() for p in EnvDrop.empty(EnvDropConfig(), COUNTED, 512).parameters()) == reader + walker + critic
    attended = width * seen + (width + seen) * width
    speaker = (2 * lstm(seen, width // 2) + attended + 2 * lstm(width, width // 2) + words * 256 + lstm(256, width)
               + width * width + 2 * width * width + words * width + words)  # fmt: skip
    assert sum(p.numel() for p in Speaker.empty(SpeakerConfig(), COUNTED, 512).parameters()) == speaker
