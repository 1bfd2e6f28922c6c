"""Self-critical captions: rewards against pycocoevalcap, the gradient against a slow REINFORCE, what it gains."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from pycocoevalcap.cider.cider import Cider

from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Batch, Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.cider import CiderD
from mmkd_cli.students.grid_captioner import GridCaptionerConfig
from mmkd_cli.tasks.self_critical import SelfCritical, as_words, scored, up_to_end
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.tasks.grids_in_memory import Grids

SMALL = GridCaptionerConfig(width=32, layers=1, heads=2, feed=64, dropout=0.0, cells_dropout=0.0, max_words=6)
TEXTS = ["A red hat.", "a red dog runs", "two dogs", "a hat", "the dog sees a cat", "a cat", "red", "two hats"]
MORE = ["one red hat", "the dog runs", "dogs", "a small hat", "a dog sees the cat", "the cat", "a red one", "hats"]
AT = Position(0, 0, 0)


def captioned(splits: tuple[str, ...] = ("train", "val")) -> TrainingData:
    """Eight pictures, two captions each."""
    texts = datasets.Dataset.from_dict({
        "text_id": [str(n) for n in range(16)], "text": [*TEXTS, *MORE], "image_row": [*range(8)] * 2
    })  # fmt: skip
    images = datasets.Dataset.from_dict({"image_id": [str(n) for n in range(8)]})
    none: np.ndarray = np.array([], dtype=np.int64)
    grids = Grids()
    return TrainingData("captioned", 1.0, splits, lambda split: {"images": images, "texts": texts},
                        lambda split: grids, lambda split, table: none)  # fmt: skip


def built(tmp_path: Any, steps: int = 0, **keys: Any) -> Any:
    """A self-critical trainable of a model that was trained by cross-entropy for so many steps."""
    task, said = registry.load("finetune_tasks", "caption"), {"least": 1, "label_smoothing": 0.0}
    config = SimpleNamespace(task=task.Config(**said), train=TrainConfig(), student=SMALL)
    if not (tmp_path / "first" / "model").exists():
        first = task.build(config, [captioned()], None, "cpu")
        if steps:
            how = TrainConfig(max_steps=steps, batch_size=8, peak_lr=3e-3, warmup_steps=5, validation=False)
            train(first, how, tmp_path / "first", device=torch.device("cpu"))
        first.save(tmp_path / "first")
    config.task = task.Config(**said, loss="self-critical", **keys)
    return task.build(config, [captioned()], tmp_path / "first", "cpu")


def prepared(made: SelfCritical, rows: int = 8) -> Batch:
    batch: Batch = made.feeds[0].load(np.arange(rows), AT)
    torch.manual_seed(3)
    with torch.no_grad():
        return made.prepare(batch)


def test_texts_end_with_their_first_zero() -> None:
    ids = torch.tensor([[3, 4, 0, 0], [0, 0, 0, 0], [5, 6, 7, 8]])
    assert up_to_end(ids).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert as_words(ids[0].tolist(), 3) == "3 4 0"


def test_rewards_are_the_official_scorers(tmp_path: Any) -> None:
    made = built(tmp_path)
    batch = prepared(made)
    tokenize = made.model.tokenize
    references = {n: [" ".join([str(i) for i in tokenize.tokenizer(t, add_special_tokens=False)["input_ids"]] + ["0"])
                      for t in (TEXTS[n], MORE[n])] for n in range(8)}  # fmt: skip
    ids, seen = batch["sampled"], batch["sampled_mask"]
    for sample in range(ids.shape[1]):
        written = {n: [as_words(ids[n, sample].tolist(), int(seen[n, sample].sum()))] for n in range(8)}
        wanted = Cider().compute_score(references, written)[1]
        greedy = batch["reward"]
        assert (batch["advantage"][:, sample] + greedy).numpy() == pytest.approx(wanted, abs=1e-5)


def test_the_mean_of_the_others_is_a_baseline(tmp_path: Any) -> None:
    made = built(tmp_path, baseline="mean", samples=3)
    batch = prepared(made)
    rewards = torch.stack([
        scored(made._rewards, batch["sampled"][:, sample], np.arange(8)) for sample in range(3)
    ], 1)  # fmt: skip
    for sample in range(3):
        others = [other for other in range(3) if other != sample]
        wanted = rewards[:, sample] - rewards[:, others].mean(1)
        torch.testing.assert_close(batch["advantage"][:, sample], wanted)
    torch.testing.assert_close(batch["reward"], rewards.mean(1))


def test_the_gradient_is_reinforces(tmp_path: Any) -> None:
    made = built(tmp_path, samples=2)
    batch = prepared(made, 3)
    said = made.forward(batch)
    (said.row_losses["self_critical"].sum() / made.counts(batch)["self_critical"]).backward()
    mine = {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}
    made.model.zero_grad()
    total, words = torch.zeros(()), 0
    for picture in range(3):
        one = {name: batch[name][picture : picture + 1] for name in ("grid", "grid_mask")}
        for sample in range(2):
            ids = batch["sampled"][picture, sample, : int(batch["sampled_mask"][picture, sample].sum())]
            for place, word in enumerate(ids.tolist()):  # each word by a forward of its own over what is before it
                before = {"target_ids": ids[None, None, : place + 1],
                          "target_mask": torch.ones(1, 1, place + 1).long()}  # fmt: skip
                logits = made.model.write({**one, **before})[0]
                total = total - batch["advantage"][picture, sample] * logits[0, -1].log_softmax(0)[word]
                words += 1
    (total / words).backward()
    assert words == made.counts(batch)["self_critical"] and mine
    for name, parameter in made.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(mine[name], parameter.grad, rtol=1e-3, atol=1e-6)


def test_it_raises_cider_over_cross_entropy(tmp_path: Any) -> None:
    made = built(tmp_path, steps=25)
    keys = {
        "max_steps": 60,
        "batch_size": 8,
        "peak_lr": 2e-4,
        "schedule": "constant",
        "warmup_steps": 0,
        "validation": False,
    }
    batch = made.feeds[0].load(np.arange(8), AT)
    scores = []
    for steps in (0, 60):
        if steps:
            train(made, TrainConfig(**keys), tmp_path / "run", device=torch.device("cpu"))
        made.model.eval()
        with torch.no_grad():
            scores.append(float(made.prepare(batch)["reward"].mean()))
    assert scores[1] > scores[0] + 0.5


def test_it_needs_a_run_of_its_own(tmp_path: Any) -> None:
    task = registry.load("finetune_tasks", "caption")
    config = SimpleNamespace(task=task.Config(loss="self-critical"), train=TrainConfig(), student=SMALL)
    with pytest.raises(UserError, match="trains a run further that writes captions: name it by --model"):
        task.build(config, [captioned()], None, "cpu")
    config.student = SimpleNamespace(name="bart")
    with pytest.raises(UserError, match="is of --student grid-captioner"):
        task.build(config, [captioned()], None, "cpu")


def test_held_out_rewards_are_counted_among_the_held_out(tmp_path: Any) -> None:
    made = built(tmp_path)
    assert isinstance(made._held_out, CiderD) and made._held_out is not made._rewards
    made.model.eval()
    batch = made.validation[0].load(np.arange(8), AT)
    with torch.no_grad():
        said = made.forward(made.prepare(batch))
    torch.testing.assert_close(said.row_losses["self_critical"] * -100, said.report["cider"])
    assert not made.counts(batch)


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been(tmp_path: Any) -> None:
    keys = {"max_steps": 6, "batch_size": 4, "peak_lr": 1e-3, "checkpoint_every": 3, "log_every": 1, "warmup_steps": 0}
    for name in ("whole", "parts"):
        train(built(tmp_path), TrainConfig(**keys), tmp_path / name, device=torch.device("cpu"))
    for file in (tmp_path / "parts" / "checkpoints").glob("step-*"):
        if "step-00000003" not in file.name and "step-00000004" not in file.name:
            file.unlink()
    again = built(tmp_path)
    train(again, TrainConfig(**keys), tmp_path / "parts", device=torch.device("cpu"))
    assert (tmp_path / "parts" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_pieces_and_the_whole_batch_give_one_loss(tmp_path: Any) -> None:
    losses = []
    for name, keys in {"whole": {}, "pieces": {"micro_batch_size": 3}}.items():
        how = TrainConfig.model_validate({"max_steps": 2, "batch_size": 8, "peak_lr": 1e-3, "log_every": 1,
                                          "validation": False, **keys})  # fmt: skip
        train(built(tmp_path), how, tmp_path / name, device=torch.device("cpu"))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["self_critical"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
