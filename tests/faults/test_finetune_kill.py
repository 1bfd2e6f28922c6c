"""Fine-tuning from a run, killed at random moments: the bytes of an undisturbed command."""

from __future__ import annotations

from pathlib import Path

import torch

from mmkd_cli.core import artifacts
from tests.faults.killing import killed
from tests.stages.finetune_chain import make_articles, tuned

TRAINING = {"model": "base", "data": "articles", "train__max_steps": 40, "train__checkpoint_every": 5,
            "train__log_every": 3}  # fmt: skip


def train(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    tuned(folder / "work", "summarization", name, **TRAINING)


def test_killed_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    root = make_articles(tmp_path)
    tuned(root, "summarization", "base", model=f"hf:{tmp_path / 'bart'}", data="articles", train__max_steps=2)
    train(tmp_path, "whole")
    seen = root / "runs/killed/metrics.jsonl"
    seed = killed(train, tmp_path, lambda: seen.stat().st_mtime_ns if seen.exists() else 0, kills=2)
    whole, again = (artifacts.open_artifact(root, name, "run") for name in ("whole", "killed"))
    assert again.fingerprint == whole.fingerprint, f"seed {seed}"
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes(), f"seed {seed}: {name}"
