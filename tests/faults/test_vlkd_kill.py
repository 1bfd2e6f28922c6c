"""VLKD's training and what its run writes, killed at random moments: the bytes of an undisturbed command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmkd_cli.core import artifacts
from mmkd_cli.stages import generate
from tests.faults.killing import killed
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain, taught

TRAINING = {"train__max_steps": 40, "train__checkpoint_every": 5, "train__log_every": 3, "method__mask_whole": 0.3}
WRITING = {"task__name": "caption", "model": "whole", "split": "train", "rows_per_range": 2, "batch_size": 2,
           "generation__num_beams": 3, "generation__max_new_tokens": 20}  # fmt: skip


def train(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    taught(folder, name, **TRAINING)


def write(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    generate.run(config_of(generate, **WRITING), context(folder / "work", name))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    make_vlkd_chain(folder)
    train(folder, "whole")
    write(folder, "whole")
    return folder


def test_killed_training_goes_on_to_the_same_bytes(chain: Path) -> None:
    seen = chain / "work/runs/killed/metrics.jsonl"
    seed = killed(train, chain, lambda: seen.stat().st_mtime_ns if seen.exists() else 0)
    whole, again = (artifacts.open_artifact(chain / "work", name, "run") for name in ("whole", "killed"))
    for name in ("metrics.jsonl", "model/model.safetensors", "heads.safetensors"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes(), f"seed {seed}: {name}"


def test_killed_writing_goes_on_to_the_same_bytes(chain: Path) -> None:
    folder = chain / "work/results/killed"
    seed = killed(write, chain, lambda: (len([*folder.glob("parts/*.jsonl")]), (folder / "manifest.json").exists()))
    whole, again = (artifacts.open_artifact(chain / "work", name, "result") for name in ("whole", "killed"))
    assert again.fingerprint == whole.fingerprint and not (folder / "parts").exists(), f"seed {seed}"
    for name in ("captions.json", "predictions.jsonl"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes(), f"seed {seed}: {name}"
