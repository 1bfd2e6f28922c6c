"""VLKD's training and what its run writes, killed at random moments: the bytes of an undisturbed command."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core import artifacts
from mmkd_cli.stages import generate
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain, taught

KILLS = 3
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


def killed(work: Callable[[Path, str], None], folder: Path, progress: Callable[[], Any]) -> int:
    """Kill `work` some times a little after `progress` changed, then let it end; the seed of the moments."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["mmkd_cli.stages.distill", "mmkd_cli.stages.generate", "mmkd_cli.training.loop",
                                   "mmkd_cli.methods.vlkd", "mmkd_cli.architectures.writer", "datasets",
                                   "mmkd_cli.reports.training", "mmkd_cli.stages.writing_page"])  # fmt: skip
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    exits = []
    for _ in range(KILLS):
        before = progress()
        process = server.Process(target=work, args=(folder, "killed"))
        process.start()
        while process.is_alive() and progress() == before:
            time.sleep(0.01)  # until it is at work
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.join()
        exits.append(process.exitcode)
    assert exits[0] == -9
    process = server.Process(target=work, args=(folder, "killed"))
    process.start()
    process.join()
    assert process.exitcode == 0, f"seed {seed}"
    return seed


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
