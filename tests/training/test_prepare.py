"""`Trainable.prepare`: what the losses need beyond a batch is made once, without gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core.contracts import Batch, Outputs
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.training.linear_student import ArrayFeed, LinearStudent


class Rewarded(LinearStudent):
    """Weighs its image loss by what its own model said of the row, and counts what it weighs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.modes: list[bool] = []

    def prepare(self, batch: Batch) -> Batch:
        assert not torch.is_grad_enabled()
        self.modes.append(self.model.training)
        image, text = self.model(batch)
        return {**batch, "reward": torch.cosine_similarity(image, text), "kept": batch["row"] % 3 > 0}

    def forward(self, batch: Batch) -> Outputs:
        said = super().forward(batch)
        kept = batch["kept"]
        said.row_losses["image_loss"] = (said.row_losses["image_loss"] * batch["reward"])[kept]
        return said

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"image_loss": int(batch["kept"].sum())}


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_prepared_batches_are_the_same_however_they_are_cut(tmp_path: Path) -> None:
    for name, keys in {"whole": {}, "pieces": {"micro_batch_size": 5}}.items():
        student = Rewarded((ArrayFeed("a", 64),), (ArrayFeed("v", 30),))
        config = TrainConfig.model_validate({"max_steps": 8, "batch_size": 24, "peak_lr": 0.01, **keys})
        train(student, config, tmp_path / name, device=torch.device("cpu"))
        assert set(student.modes) == {True, False}  # in validation, too
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "pieces"), strict=True):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-6)


def test_the_first_step_is_weighed_by_the_first_weights(tmp_path: Path) -> None:
    student, untouched = Rewarded((ArrayFeed("a", 48),)), Rewarded((ArrayFeed("a", 48),))
    train(student, TrainConfig(max_steps=1, batch_size=48, log_every=1), tmp_path, device=torch.device("cpu"))
    feed, rows = ArrayFeed("a", 48), torch.arange(48).numpy()
    batch = feed.load(rows, None)  # type: ignore[arg-type]
    image, text = untouched.model(batch)
    losses = LinearStudent.forward(untouched, batch).row_losses["image_loss"]
    kept = batch["row"] % 3 > 0
    wanted = (losses * torch.cosine_similarity(image, text))[kept].mean()
    assert lines(tmp_path)[0]["image_loss"] == pytest.approx(float(wanted), rel=1e-5)
