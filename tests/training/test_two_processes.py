"""Two gloo processes give one process's losses over 20 steps, to 1e-5, without dropout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.training.linear_student import ArrayFeed, LinearStudent

ROOT = Path(__file__).parents[2]
COMMON = {"max_steps": 20, "peak_lr": 0.01, "checkpoint_every": 7}
CASES = {
    "uneven": {**COMMON, "batch_size": 17},
    "pieces": {**COMMON, "batch_size": 24, "micro_batch_size": 5, "clip_norm": 0.5},
}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    runs = [word for name, keys in CASES.items() for word in (str(tmp_path / "two" / name), json.dumps(keys))]
    done = subprocess.run(
        [*launch, "-m", "tests.training.run_linear", *runs],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, keys in CASES.items():
        student = LinearStudent((ArrayFeed("a", 64), ArrayFeed("b", 51)), (ArrayFeed("v", 30),), tokens=True)
        train(student, TrainConfig(**keys), tmp_path / "one" / name, device=torch.device("cpu"))
        one, two = lines(tmp_path / "one" / name), lines(tmp_path / "two" / name)
        assert [line["step"] for line in one] == [line["step"] for line in two]
        assert len([line for line in one if "loss" in line]) == 20
        assert any("val/contrastive_loss" in line for line in one)
        for first, second in zip(one, two, strict=True):
            assert second == pytest.approx(first, rel=1e-5, abs=1e-6)


def test_a_bench_may_take_longer_than_the_processes_wait_for_each_other(tmp_path: Path) -> None:
    """The bench runs on the main process alone, 13 seconds; a barrier gives up after ten."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.run_slow_bench", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert said == [{"step": 4, "recall": 1.0}]
