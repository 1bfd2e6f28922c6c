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


@pytest.mark.parametrize("keys", [{"batch_size": 17}, {"batch_size": 24, "micro_batch_size": 5, "clip_norm": 0.5}])
def test_two_processes_equal_one(tmp_path: Path, keys: dict[str, Any]) -> None:
    keys = {**keys, "max_steps": 20, "peak_lr": 0.01, "checkpoint_every": 7}
    feeds = (ArrayFeed("a", 64), ArrayFeed("b", 51))
    student = LinearStudent(feeds, (ArrayFeed("v", 30),), tokens=True)
    train(student, TrainConfig(**keys), tmp_path / "one", device=torch.device("cpu"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.run_linear", str(tmp_path / "two"), json.dumps(keys)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = ([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
                for name in ("one", "two"))  # fmt: skip
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert len([line for line in one if "loss" in line]) == 20
    assert any("val/contrastive_loss" in line for line in one)
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert second[name] == pytest.approx(value, rel=1e-5, abs=1e-6), (first["step"], name)
