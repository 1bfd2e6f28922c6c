"""Memory banks on two processes are those of one: they keep the joint batch, and so give the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmkd_cli.stages import distill
from tests.stages.small_chain import config_of, context, make_chain, student_keys

KEYS = {
    "method.name": "cls-regression", "method.contrastive_weight": 1.0, "method.target_loss": "contrastive-target",
    "method.target_bank": 20, "method.dedup": True, "method.bank.size": 18, "method.bank.keys": "average",
    "method.bank.momentum": 0.8, "method.bank.start": "random", "method.bank.gamma": 0.9,
    "train.batch_size": 7, "train.micro_batch_size": 3, "train.max_steps": 8, "train.peak_lr": 0.003,
    "train.log_every": 1, "data": ["squares:vit"],
}  # fmt: skip


def test_two_processes_equal_one(tmp_path: Path) -> None:
    root = make_chain(tmp_path)
    keys = {**{name.replace("__", "."): value for name, value in student_keys(student__dropout=0.0).items()}, **KEYS}
    said = [f"{name}={json.dumps(value) if isinstance(value, (list, bool)) else value}" for name, value in keys.items()]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmkd_cli",
         "distill", "--root", root, "--name", "two", "--device", "cpu",
         *(word for text in said for word in ("--set", text))],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    distill.run(config_of(distill, **{name.replace(".", "__"): value for name, value in keys.items()}),
                context(root, "one"))  # fmt: skip
    one, two = (
        [json.loads(line) for line in (root / f"runs/{name}/metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len([line for line in one if {"contrastive", "contrastive_target_text"} <= line.keys()]) == 8
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-4, abs=1e-5)
    first, second = (
        load_file(sorted((root / f"runs/{name}/checkpoints").rglob("*.safetensors"))[-1]) for name in ("one", "two")
    )
    kept = [name for name in first if ".memory." in name and name.rpartition(".")[2] in ("vectors", "pictures", "ages")]
    assert len(kept) == 9
    for name in kept:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-5)
