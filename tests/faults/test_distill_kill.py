"""SIGKILL at random moments, or a full disk: the same command goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core import artifacts
from mmkd_cli.core.config import flatten
from mmkd_cli.core.errors import MmkdError, Refused
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


def train_on_a_disk_that_fills(root: Path, name: str) -> None:
    """The child's work: after the first checkpoint no file may become half as large as that. Notes the error."""
    torch.set_num_threads(1)
    from mmkd_cli.training import checkpoints

    save = checkpoints.save

    def filling(folder: Path, *rest: Any) -> None:
        save(folder, *rest)
        limit = min(path.stat().st_size for path in folder.glob("*.safetensors")) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    checkpoints.save = filling
    try:
        distilled(root, name, data="squares", cache="vit", **KEYS)
    except MmkdError as error:
        (root / f"said-{name}").write_text(str(error))
        raise SystemExit(error.exit_code) from None


def server() -> Any:
    """Children are forked from a process that has imported the libraries, so that five starts take no minute."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(
        ["mmkd_cli.stages.distill", "mmkd_cli.training.loop", "mmkd_cli.methods.cls_regression", "mmkd_cli.cache.live",
         "mmkd_cli.students.unimodal", "mmkd_cli.teachers.timm_models", "mmkd_cli.reports.training", "datasets"]
    )  # fmt: skip
    return found


def assert_as_undisturbed(chain: Path, name: str, note: str = "") -> None:
    whole, made = (artifacts.open_artifact(chain, run, "run") for run in ("whole", name))
    assert made.fingerprint == whole.fingerprint, note
    for file in ("metrics.jsonl", "model/model.safetensors", "heads.safetensors"):
        assert (made.path / file).read_bytes() == (whole.path / file).read_bytes(), f"{note}: {file}"
    assert made.check() == {}
    assert not list(made.path.rglob("*.tmp"))


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(chain: Path) -> None:
    process = server().Process(target=train_on_a_disk_that_fills, args=(chain, "full"))
    process.start()
    process.join(240)
    said = (chain / "said-full").read_text()
    assert process.exitcode == 2 and "runs/full is full (File too large)" in said and "run the same command" in said
    folder = chain / "runs/full"
    (kept,) = (folder / "checkpoints").glob("*.safetensors")
    record = json.loads(kept.with_suffix(".json").read_text())
    assert record["step"] == 8 and kept.stat().st_size == record["bytes"]
    left = int(re.search(r"about ([\d,]+) bytes", said)[1].replace(",", ""))  # type: ignore[index]
    assert record["bytes"] < left < 5 * record["bytes"]  # more checkpoints of this size, and the model
    assert not (folder / "manifest.json").exists() and not list(folder.rglob("*.tmp"))
    train_again(chain, "full")
    assert_as_undisturbed(chain, "full")


def test_killed_training_goes_on_to_the_same_bytes(chain: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    seen = chain / "runs/killed/metrics.jsonl"
    killed_at = []
    for _ in range(KILLS):
        process = server().Process(target=train_again, args=(chain, "killed"))
        process.start()
        before = seen.stat().st_mtime_ns if seen.exists() else 0
        while process.is_alive() and (seen.stat().st_mtime_ns if seen.exists() else 0) == before:
            time.sleep(0.01)  # until it trains
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.join()
        killed_at.append(process.exitcode)
    assert killed_at[0] == -9
    process = server().Process(target=train_again, args=(chain, "killed"))
    process.start()
    process.join()
    assert process.exitcode == 0, f"seed {seed}"
    assert_as_undisturbed(chain, "killed", f"seed {seed}")


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
