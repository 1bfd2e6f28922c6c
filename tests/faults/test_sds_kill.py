"""SDS-CLIP killed at random moments, and run by two processes: noise and time steps are the same again."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmkd_cli.core import artifacts
from mmkd_cli.core.config import flatten
from tests.stages.sds_chain import make_sds_chain, sds_keys, tuned

KILLS = 3
KEYS = {"train__max_steps": 60, "train__checkpoint_every": 7, "train__log_every": 3, "method__captions": "all",
        "method__projection_warmup_steps": 10, "train__validate_every": 30}  # fmt: skip
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chain with the undisturbed run `whole`."""
    folder = tmp_path_factory.mktemp("kills")
    make_sds_chain(folder)
    tuned(folder, "whole", **KEYS)
    return folder


def train_again(folder: Path, name: str) -> None:
    """The child's work."""
    torch.set_num_threads(1)
    tuned(folder, name, **KEYS)


def test_killed_training_goes_on_to_the_same_bytes(chain: Path) -> None:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["mmkd_cli.stages.distill", "mmkd_cli.training.loop", "mmkd_cli.methods.sds",
                                   "mmkd_cli.reports.training", "mmkd_cli.teachers.stable_diffusion", "open_clip",
                                   "diffusers.models", "datasets"])  # fmt: skip
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    seen = chain / "work/runs/killed/metrics.jsonl"
    killed_at = []
    for _ in range(KILLS):
        process = server.Process(target=train_again, args=(chain, "killed"))
        process.start()
        before = seen.stat().st_mtime_ns if seen.exists() else 0
        while process.is_alive() and (seen.stat().st_mtime_ns if seen.exists() else 0) == before:
            time.sleep(0.01)  # until it trains
        time.sleep(moments.uniform(0, 1.0))
        process.kill()
        process.join()
        killed_at.append(process.exitcode)
    assert killed_at[0] == -9
    process = server.Process(target=train_again, args=(chain, "killed"))
    process.start()
    process.join()
    assert process.exitcode == 0, f"seed {seed}"
    whole, killed = (artifacts.open_artifact(chain / "work", name, "run") for name in ("whole", "killed"))
    assert killed.fingerprint == whole.fingerprint, f"seed {seed}"
    for name in ("metrics.jsonl", "model/open_clip_model.safetensors", "heads.safetensors"):
        assert (killed.path / name).read_bytes() == (whole.path / name).read_bytes(), f"seed {seed}: {name}"


def test_two_processes_train_one_processs_run(chain: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(chain, tmp_path / "chain"))
    keys = {"train__max_steps": 10, "method__grad_share_every": 5, "train__batch_size": 9, "cache": "states"}
    tuned(folder, "one", **keys)
    sets = [f"{key.replace('__', '.')}={value}" for key, value in flatten(sds_keys(folder, **keys))]
    words = ["mmkd_cli", "distill", "--root", str(folder / "work"), "--name", "two", "--device", "cpu", "--json",
             *(word for text in sets for word in ("--set", text))]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *words],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
    one, two = ([json.loads(line) for line in (folder / "work/runs" / name / "metrics.jsonl").read_text().splitlines()]
                for name in ("one", "two"))  # fmt: skip
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert second.keys() == first.keys()
        assert second == pytest.approx(first, rel=2e-5, abs=1e-6)
