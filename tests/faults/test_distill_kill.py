"""SIGKILL at random moments: the same command goes on, and ends as if nothing had happened."""

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
from mmkd_cli.core.errors import Refused
from tests.stages.small_chain import distilled, make_chain, student_keys

KILLS = 5
KEYS = {"train__epochs": 40, "train__checkpoint_every": 15, "train__log_every": 3, "student__dropout": 0.2}
ROOT = Path(__file__).parents[2]


def command(root: Path, name: str) -> list[str]:
    sets = [f"{key.replace('__', '.')}={value}" for key, value in flatten(student_keys(**KEYS))]
    return [sys.executable, "-m", "mmkd_cli", "distill", "--root", str(root), "--name", name, "--data", "squares",
            "--cache", "vit", "--device", "cpu", *(word for text in sets for word in ("--set", text))]  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a chain with the undisturbed run `whole`."""
    root = make_chain(tmp_path_factory.mktemp("kills"))
    distilled(root, "whole", data="squares", cache="vit", **KEYS)
    return root


def train_again(root: Path, name: str) -> None:
    """The child's work."""
    torch.set_num_threads(1)
    distilled(root, name, data="squares", cache="vit", **KEYS)


def test_killed_training_goes_on_to_the_same_bytes(chain: Path) -> None:
    """The children are forked from a server that has imported the libraries, so that five starts take no minute."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["mmkd_cli.stages.distill", "mmkd_cli.training.loop", "mmkd_cli.methods.cls_regression", "mmkd_cli.cache.live",
         "mmkd_cli.students.unimodal", "mmkd_cli.teachers.timm_models", "mmkd_cli.reports.training", "datasets"]
    )  # fmt: skip
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    seen = chain / "runs/killed/metrics.jsonl"
    killed_at = []
    for _ in range(KILLS):
        process = server.Process(target=train_again, args=(chain, "killed"))
        process.start()
        before = seen.stat().st_mtime_ns if seen.exists() else 0
        while process.is_alive() and (seen.stat().st_mtime_ns if seen.exists() else 0) == before:
            time.sleep(0.01)  # until it trains
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.join()
        killed_at.append(process.exitcode)
    assert killed_at[0] == -9
    process = server.Process(target=train_again, args=(chain, "killed"))
    process.start()
    process.join()
    assert process.exitcode == 0, f"seed {seed}"
    whole, killed = (artifacts.open_artifact(chain, name, "run") for name in ("whole", "killed"))
    assert killed.fingerprint == whole.fingerprint, f"seed {seed}"
    for name in ("metrics.jsonl", "model/model.safetensors", "heads.safetensors"):
        assert (killed.path / name).read_bytes() == (whole.path / name).read_bytes(), f"seed {seed}: {name}"
    assert killed.check() == {}
    assert not list(killed.path.rglob("*.tmp"))


def test_a_second_writer_is_refused_with_the_first_ones_pid(chain: Path) -> None:
    with artifacts.lock(chain / "runs/held"), pytest.raises(Refused) as error:
        distilled(chain, "held", data="squares", cache="vit", **KEYS)
    assert f"runs/held is being written by {os.uname().nodename} pid {os.getpid()}" in str(error.value)


def test_two_processes_train_one_processs_run(chain: Path, tmp_path: Path) -> None:
    """`torchrun --nproc-per-node 2 -m mmkd_cli distill` with dropout 0: the losses of 20 steps to 1e-5."""
    root = Path(shutil.copytree(chain, tmp_path / "work"))
    keys = {"train__max_steps": 20, "student__dropout": 0.0}
    distilled(root, "one", data="squares", cache="vit", **keys)
    words = command(root, "two")[2:] + [f for k, v in keys.items() for f in ("--set", f"{k.replace('__', '.')}={v}")]
    words = [*words, "--set", "train.epochs=2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *words],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
    one, two = ([json.loads(line) for line in (root / "runs" / name / "metrics.jsonl").read_text().splitlines()]
                for name in ("one", "two"))  # fmt: skip
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-5, abs=1e-6)
