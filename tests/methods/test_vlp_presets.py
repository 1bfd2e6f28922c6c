"""Presets of CLIP-ViL_p's two stages: their rates at the epochs that the source names, and their parameters."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmkd_cli.cli.options import file_layers
from mmkd_cli.core import config as configs
from mmkd_cli.stages import distill
from mmkd_cli.training.optim import Schedule
from tests.architectures.tiny_language_models import tiny_bert


def preset(name: str) -> Any:
    return configs.resolve(distill.Config, file_layers("distill", None, name, None)).config


@pytest.mark.parametrize(
    ("name", "peak", "epochs", "drops"),
    [("rn50-first", 1e-4, 20, (12, 17)), ("rn50-second", 5e-5, 11, (4, 8)), ("rn50x4-first", 5e-5, 20, (12, 17)),
     ("rn50x4-second", 2.75e-5, 11, (4, 9))],
)  # fmt: skip
def test_the_towers_rate_falls_at_its_epochs(name: str, peak: float, epochs: int, drops: tuple[int, int]) -> None:
    config = preset(f"vlp/{name}")
    tower, total = config.student.tower, 1000 * epochs
    assert (config.train.peak_lr, config.train.epochs, config.method.qa_weight) == (peak, epochs, "second" in name)
    own = config.train.model_copy(update={"schedule": "steps", "drops": tower.drops, "warmup_steps": 0})
    schedule = Schedule(SimpleNamespace(), total)  # type: ignore[arg-type]
    for epoch in range(epochs):
        wanted = 0.1 ** sum(epoch >= drop for drop in drops)
        assert schedule.factor(epoch * 1000, own) == pytest.approx(wanted)
        assert schedule.factor(epoch * 1000 + 999, own) == pytest.approx(wanted)


def test_the_tower_counts_among_what_is_trained(tmp_path: Path) -> None:
    """RN50's stages hold 23,527,264 parameters: counted by hand from its bottlenecks, stem and batch norms."""

    def bottleneck(inputs: int, width: int, stride: int) -> int:
        own = inputs * width + 9 * width * width + width * 4 * width + 2 * (2 * width) + 2 * 4 * width
        return own + (inputs * 4 * width + 2 * 4 * width if stride > 1 or inputs != 4 * width else 0)

    stem = 3 * 9 * 32 + 32 * 9 * 32 + 32 * 9 * 64 + 2 * (32 + 32 + 64)
    inputs, stages = 64, 0
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stages += bottleneck(inputs, width, stride if not block else 1)
            inputs = 4 * width
    config = preset("vlp/rn50-first")
    student = config.student.model_copy(update={"weights": str(tiny_bert(tmp_path / "bert"))})
    whole = distill.describe(config.model_copy(update={"student": student}))["parameters"]
    frozen = student.model_copy(update={"tower": student.tower.model_copy(update={"mode": "cached"})})
    without = distill.describe(config.model_copy(update={"student": frozen}))["parameters"]
    assert whole["trainable"] - without["trainable"] == stem + stages == 23_527_264
