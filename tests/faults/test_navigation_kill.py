"""An agent that a speaker teaches, and its walks, killed at random moments: the bytes of an undisturbed command."""

from __future__ import annotations

from pathlib import Path

import torch

from mmkd_cli.core import artifacts
from mmkd_cli.stages import cache_teacher, generate, prepare_data
from tests.data.small_houses import write_houses
from tests.faults.killing import killed
from tests.stages.finetune_chain import tuned
from tests.stages.small_chain import config_of, context

SMALL = {"data": ("houses",), "cache": "views", "task__least": 1, "student__width": 16, "student__word_width": 8,
         "student__angle_width": 8, "train__optimizer": "rmsprop"}  # fmt: skip


def make_houses(folder: Path) -> Path:
    """Data `houses`, cache `views`, and run `speaker`. Returns the root."""
    root, files = folder / "work", write_houses(folder / "r2r")
    source = {f"source__{name}": str(path) for name, path in files.items()}
    prepare_data.run(config_of(prepare_data, source__name="r2r", **source), context(root, "houses"))
    features = {"teacher__features": str(folder / "r2r/views.tsv"), "teacher__table": "viewpoints"}
    found = config_of(cache_teacher, teacher__name="precomputed", data="houses", **features)
    cache_teacher.run(found, context(root, "views"))
    tuned(root, "r2r-speaker", "speaker", **SMALL)
    return root


def train(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    tuned(folder / "work", "r2r", name, **SMALL, task__speaker=str(folder / "work/runs/speaker"),
          task__environment_dropout=True, task__most_actions=6, train__max_steps=30, train__checkpoint_every=5,
          train__log_every=3, train__validate_every=10, train__keep="max:val/val_unseen/spl")  # fmt: skip


def walk(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    found = config_of(generate, task__name="r2r", model="whole", split="train", rows_per_range=4, batch_size=2)
    generate.run(found, context(folder / "work", name))


def test_killed_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    root = make_houses(tmp_path)
    train(tmp_path, "whole")
    seen = root / "runs/killed/metrics.jsonl"
    seed = killed(train, tmp_path, lambda: seen.stat().st_mtime_ns if seen.exists() else 0, kills=2)
    whole, again = (artifacts.open_artifact(root, name, "run") for name in ("whole", "killed"))
    assert again.fingerprint == whole.fingerprint, f"seed {seed}"
    walk(tmp_path, "whole")
    parts = root / "results/killed/parts"
    seed = killed(walk, tmp_path, lambda: len([*parts.glob("*.jsonl")]) if parts.exists() else 0, kills=2)
    for name in ("predictions.jsonl", "trajectories.json"):
        one, other = ((root / "results" / which / name).read_bytes() for which in ("whole", "killed"))
        assert one == other, f"seed {seed}: {name}"
