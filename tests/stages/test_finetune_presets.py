"""Presets of `finetune`: each is a whole recipe, and its rates are the sources' at the steps that they name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmkd_cli.cli.options import file_layers
from mmkd_cli.core import config as configs
from mmkd_cli.core import registry
from mmkd_cli.stages import finetune
from mmkd_cli.training.optim import Schedule

FOLDER = Path(finetune.__file__).parents[1] / "assets" / "presets" / "finetune"
EVERY = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.toml"))


def preset(name: str, task: str | None = None) -> Any:
    return configs.resolve(finetune.Config, file_layers("finetune", None, name, task)).config


def rate(train: Any, total: int, step: int) -> float:
    """At a step counted from 1."""
    schedule: Any = Schedule(SimpleNamespace(), total)  # type: ignore[arg-type]
    return float(train.peak_lr * schedule.factor(step - 1, train))


@pytest.mark.parametrize("name", EVERY)
def test_a_preset_is_of_its_tasks_folder_and_needs_no_prefix_beside_the_task(name: str) -> None:
    config, (task, short) = preset(name), name.split("/")
    assert config.task.name == task and config.student.name in registry.load("finetune_tasks", task).trains
    assert config.model_dump() == preset(short, task).model_dump()
    text = (FOLDER / f"{name}.toml").read_text()
    assert text.startswith("# ") and ("[C]" in text or short == "demo")  # the demo's sizes are of no paper


def test_the_recipes_of_the_paper_have_presets() -> None:
    named = {"vqa/pythia", "vqa/mcan", "vqa/vlp", "gqa/vlp", "snli-ve/vlp", "nlvr2/vlp", "caption/cross-entropy",
             "caption/self-critical"}  # fmt: skip
    assert named <= {*EVERY}


@pytest.mark.parametrize(
    ("name", "epochs", "drops"), [("vqa/vlp", 5, [2]), ("gqa/vlp", 5, [3]), ("snli-ve/vlp", 2, [1])]
)
def test_a_towers_rate_falls_at_its_epochs(name: str, epochs: int, drops: list[int]) -> None:
    config = preset(name)
    tower, steps = config.student.tower, 1000
    assert config.train.epochs == epochs and tower.trained and tower.lr == 1e-3
    train = config.train.model_copy(update={"schedule": "steps", "drops": tower.drops, "drop_factor": tower.drop_factor,
                                            "warmup_steps": 0, "peak_lr": tower.lr})  # fmt: skip
    for epoch in range(epochs):
        wanted = 1e-3 * 0.1 ** sum(epoch >= drop for drop in drops)
        assert rate(train, epochs * steps, epoch * steps + 1) == pytest.approx(wanted)
        assert rate(train, epochs * steps, (epoch + 1) * steps) == pytest.approx(wanted)


def test_pythias_rate_falls_at_its_four_steps() -> None:
    train = preset("vqa/pythia").train
    rates = [rate(train, 22_000, step) for step in (1, 500, 1000, 15_000, 15_001, 18_001, 20_001, 21_001, 22_000)]
    by_hand = [0.01 * (0.2 + 0.8 * step / 1000) for step in (1, 500, 1000)]
    assert rates == pytest.approx([*by_hand, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6])


def test_mcans_rate_falls_at_its_two_steps() -> None:
    train = preset("vqa/mcan").train
    rates = [rate(train, 236_000, step) for step in (27_000, 54_000, 180_000, 180_001, 216_001)]
    assert rates == pytest.approx([5e-5 * 0.625, 5e-5, 5e-5, 1e-5, 2e-6])


def test_the_captions_rate_is_noams() -> None:
    train = preset("caption/cross-entropy").train
    for step in (1, 777, 20_000, 20_001, 150_000):
        noam = 512**-0.5 * min(step**-0.5, step * 20_000**-1.5)
        assert rate(train, 170_000, step) == pytest.approx(noam, rel=1e-4)
