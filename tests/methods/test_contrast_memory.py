"""cls-regression with memory banks, a moving average and contrast with the teacher, step by step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.core.contracts import Position, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.methods.cls_regression import ClsRegression, ClsRegressionConfig
from mmkd_cli.students.mm_d2v2 import MmD2v2, MmD2v2Config
from mmkd_cli.training.config import TrainConfig
from tests.pairs_in_memory import pairs
from tests.students import small_students

WIDTH = small_students.WIDTH


def built(folder: Path, **method: Any) -> ClsRegression:
    image, text, *_ = small_students.d2v2_files(folder)
    student = MmD2v2Config(
        image_weights=str(image), text_weights=str(text), width=WIDTH, heads=small_students.HEADS, image_size=32,
        max_tokens=32, vocabulary=small_students.BPE_TOKENS, depth=2,
    )  # fmt: skip
    config = SimpleNamespace(method=ClsRegressionConfig(**method), student=student, train=TrainConfig())
    return ClsRegression.build(config, [pairs(width=WIDTH)], "cpu")


def batch(trainable: ClsRegression, step: int) -> dict[str, Any]:
    rows = (np.arange(5) + 5 * step) % trainable.feeds[0].rows
    return trainable.feeds[0].load(rows, Position(0, step, 0))


def slow(anchors: Tensor, columns: Tensor, scale: float, left_out: list[list[bool]] | None = None) -> float:
    """Mean over rows of -log softmax at the row's own column, number by number."""
    scores = scale * (F.normalize(anchors, dim=1) @ F.normalize(columns, dim=1).T).double()
    total = 0.0
    for i in range(len(anchors)):
        kept = [float(scores[i, j]) for j in range(len(columns)) if left_out is None or not left_out[i][j]]
        total += np.log(np.sum(np.exp(kept))) - float(scores[i, i])
    return total / len(anchors)


def outputs(trainable: ClsRegression, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gathered vectors, detached, and joint losses of a step, which is then closed."""
    trainable.before_step(step)
    gathered = trainable.forward(batch(trainable, step)).gathered
    losses = dict(trainable.joint_losses(gathered))
    closed = {name: value.detach() for name, value in gathered.items()}
    trainable.after_step(step, closed)
    return closed, losses


def test_banks_of_both_modalities_before_and_after_they_are_full(tmp_path: Path) -> None:
    trainable = built(tmp_path, contrastive_weight=1.0, bank={"size": 8})
    seen: list[dict[str, Tensor]] = []
    for step in range(4):
        gathered, losses = outputs(trainable, step)
        terms = []
        for anchor, other in (("image", "text"), ("text", "image")):
            earlier = [past[f"{other}_output"] for past in seen]
            columns = torch.cat([gathered[f"{other}_output"], *([torch.cat(earlier)[-8:]] if earlier else [])])
            terms.append(slow(gathered[f"{anchor}_output"], columns, 1 / 0.07))
        assert losses["contrastive"].item() == pytest.approx(sum(terms) / 2, rel=1e-4)
        seen.append(gathered)


@pytest.mark.parametrize("dedup", [False, True])
def test_contrast_with_the_teacher_and_its_bank(tmp_path: Path, dedup: bool) -> None:
    trainable = built(tmp_path, target_loss="contrastive-target", target_bank=12, dedup=dedup, target_scale=10.0)
    seen: list[tuple[Tensor, Tensor]] = []
    for step in range(5):  # eight pictures have three captions each: the bank soon holds a row's own
        pictures = batch(trainable, step)["picture"]
        gathered, losses = outputs(trainable, step)
        earlier = [pair[0] for pair in seen]
        columns = torch.cat([gathered["target"], *([torch.cat(earlier)[-12:]] if earlier else [])])
        owners = torch.cat([pictures, *([torch.cat([pair[1] for pair in seen])[-12:]] if earlier else [])]).tolist()
        same = [[dedup and i != j and owners[i] == owners[j] for j in range(len(owners))] for i in range(5)]
        for modality in ("image", "text"):
            expected = slow(gathered[f"regressed_{modality}"], columns, 10.0, same)
            assert losses[f"contrastive_target_{modality}"].item() == pytest.approx(expected, rel=1e-4)
        assert trainable.weights["contrastive_target_image"] == 1.0
        seen.append((gathered["target"], pictures))
    assert not dedup or any(any(row) for row in same)
    trainable.model.eval()
    gathered = trainable.forward(batch(trainable, 0)).gathered
    alone = slow(gathered["regressed_text"].detach(), gathered["target"], 10.0)
    if not dedup:  # in validation a batch stands alone
        assert trainable.joint_losses(gathered)["contrastive_target_text"].item() == pytest.approx(alone, rel=1e-4)


def test_keys_of_a_moving_average(tmp_path: Path) -> None:
    trainable = built(tmp_path, contrastive_weight=1.0, bank={"size": 8, "keys": "average", "momentum": 0.5})
    optimizer = torch.optim.SGD([p for p in trainable.model.parameters() if p.requires_grad], 0.5)
    average = trainable.memory.average.model
    gathered, losses = outputs(trainable, 0)
    for name in ("image", "text"):  # at first it is the model itself
        torch.testing.assert_close(gathered[f"key_{name}_output"], gathered[f"{name}_output"])
    torch.testing.assert_close(
        losses["contrastive"], info_nce(gathered["image_output"], gathered["text_output"], 1 / 0.07)
    )
    losses["contrastive"].backward()
    optimizer.step()
    before = {name: value.clone() for name, value in average.named_parameters()}
    trainable.after_step(1, gathered)
    model = dict(trainable.model.named_parameters())
    moved = 0
    for name, value in average.named_parameters():
        expected = 0.5 * before[name] + 0.5 * model[name].detach()
        torch.testing.assert_close(value, expected if model[name].requires_grad else before[name])
        moved += not torch.equal(value, before[name])
    assert moved and all(p.grad is None for p in average.parameters())
    kept = trainable.memory.banks["text_output"].read()[0]  # kept twice, five rows in eight places
    torch.testing.assert_close(kept[[5, 6, 7, 0, 1]], F.normalize(gathered["key_text_output"], dim=1))


def test_what_depends_on_the_step(tmp_path: Path) -> None:
    ramps = {"size": 20, "grown_from": 4, "gamma": 0.9, "gamma_end": 1.0, "ramp_steps": 8}
    trainable = built(tmp_path, contrastive_weight=1.0, bank=ramps)
    bank, places, gammas = trainable.memory.banks["image_output"], [], []
    for step in (0, 1, 4, 8, 30):
        trainable.before_step(step)
        places.append(len(bank.read()[0]))
        gammas.append(trainable.memory._gamma)
    assert places == [4, 6, 12, 20, 20] and gammas == pytest.approx([0.9, 0.9125, 0.95, 1.0, 1.0])


def test_the_memory_is_in_checkpoints_and_not_in_the_run(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "contrastive_weight": 1.0, "bank": {"size": 8, "keys": "average"}, "target_loss": "contrastive-target",
        "target_bank": 8, "train_target_scale": True,
    }  # fmt: skip
    one, other = built(tmp_path / "one", **keys), built(tmp_path / "other", **keys)
    for step in range(3):
        outputs(one, step)
    other.model.load_state_dict(one.model.state_dict())
    for (_, first), (_, second) in [(outputs(one, 3), outputs(other, 3))]:
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    run = tmp_path / "run"
    run.mkdir()
    one.save(run)
    loaded = MmD2v2.load(run, {"student": one.model.config.model_dump(mode="json")})
    assert not [name for name in loaded.state_dict() if name.startswith("memory")]
    assert one.model.memory is one.memory
    grouped = [p for group in one.parameter_groups(1e-3, 0.01) for p in group["params"]]
    assert any(p is one.memory.log_scale for p in grouped)
    config = SimpleNamespace(method=one.config, student=one.model.config, train=TrainConfig())
    teacher: Any = SimpleNamespace(
        signals=lambda: {"image_cls": SignalSpec("image_cls", "images", (WIDTH,))}, parameters_count=lambda: 1
    )
    assert ClsRegression.count(config, teacher).total == sum(p.numel() for p in one.model.parameters())


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    for method, said in (
        ({"target_bank": 8}, "method.target_bank is of method.target_loss=contrastive-target"),
        ({"bank": {"size": 8}}, "method.bank is of a contrastive loss"),
        ({"bank": {"gamma": 0.9}, "contrastive_weight": 1.0}, "no effect without banks"),
        ({"bank": {"size": 8, "gamma_end": 0.9}, "contrastive_weight": 1.0}, "method.bank.ramp_steps is needed"),
    ):
        with pytest.raises(UserError, match=said):
            built(tmp_path, **method)
