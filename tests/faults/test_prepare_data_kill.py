"""prepare-data killed at random moments, or on a full disk, goes on and ends with the bytes of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from mmkd_cli.core.config import Layer, resolve
from mmkd_cli.core.contracts import StageContext
from mmkd_cli.core.errors import MmkdError
from mmkd_cli.stages.prepare_data import Config, run
from tests.data.made_pictures import jpeg

PICTURES, KILLS = 160, 5


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    lines = ["path,caption"]
    made = [jpeg(n, 640, 480) for n in range(4)]
    for n in range(PICTURES):
        (tmp_path / f"{n}.jpg").write_bytes(made[n % 4])
        lines.append(f"{n}.jpg,text {n}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    return tmp_path / "pairs.csv"


def prepare(pairs: Path, name: str, workers: int) -> str:
    source = {"name": "image-text", "annotations": str(pairs)}
    config = resolve(Config, [Layer("test", {"source": source, "rows_per_range": 8})]).config
    return str(run(config, StageContext(pairs.parent / "work", name=name, workers=workers))["status"])


def started(pairs: Path, name: str, workers: int) -> BaseProcess:
    """The stage in a process of its own (forked: the libraries are already imported)."""
    process = multiprocessing.get_context("fork").Process(target=prepare, args=(pairs, name, workers))
    process.start()
    return process


def arrows(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.arrow")}


def children(pid: int) -> list[int]:
    """Live processes whose parent this is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def being_written(folder: Path) -> set[Path]:
    return set(folder.glob("*/*/.*.tmp"))


def started_and_at_work(pairs: Path, name: str, workers: int) -> BaseProcess:
    """A process that has begun to write a file."""
    folder = pairs.parent / "work" / "data" / name
    left_behind = being_written(folder)
    process = started(pairs, name, workers)
    while process.is_alive() and not being_written(folder) - left_behind:
        time.sleep(0.002)
    return process


@pytest.mark.parametrize("workers", [0, 2])
def test_sigkill_at_random_moments(pairs: Path, workers: int) -> None:
    prepare(pairs, "whole", 0)
    folder = pairs.parent / "work" / "data" / "killed"
    rng, there = random.Random(workers), 0
    for _ in range(KILLS):
        process = started_and_at_work(pairs, "killed", workers)
        time.sleep(rng.uniform(0, 0.15))
        helpers = children(process.pid or 0)
        assert len(helpers) <= workers  # the last one may not have been forked yet
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL and not (folder / "manifest.json").exists()
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in helpers):
            assert time.monotonic() < deadline, "a worker outlived its parent"
            time.sleep(0.01)
        assert len(arrows(folder)) >= there
        there = len(arrows(folder))
    assert prepare(pairs, "killed", workers) == "done"
    assert arrows(folder) == arrows(folder.with_name("whole"))
    assert not list(folder.rglob(".*")), "what killed writers left behind is swept"
    assert prepare(pairs, "killed", workers) == "already done"


@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_ends_with_130_and_leaves_no_half_file(pairs: Path, workers: int) -> None:
    folder = pairs.parent / "work" / "data" / "stopped"
    command = [sys.executable, "-m", "mmkd_cli", "prepare-data", "--source", "image-text", "--annotations", pairs.name,
               "--workers", str(workers), "--set", "rows_per_range=8", "--name", "stopped"]  # fmt: skip
    for _ in range(5):  # on a busy machine it may end before anybody looks
        shutil.rmtree(folder, ignore_errors=True)
        process = subprocess.Popen(command, cwd=pairs.parent, env={**os.environ, "MMKD_ROOT": "work"},
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        while process.poll() is None and not being_written(folder):
            time.sleep(0.002)
        helpers = children(process.pid)
        process.terminate()
        _, said = process.communicate()
        if process.returncode:
            break
    assert process.returncode == 130 and "the same command goes on" in said and "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)
    if workers == 0:
        assert not list(folder.rglob(".*"))
    assert not (folder / "manifest.json").exists() and prepare(pairs, "stopped", 0) == "done"


def test_two_at_once_and_one_of_them_killed(pairs: Path) -> None:
    prepare(pairs, "whole", 0)
    folder = pairs.parent / "work" / "data" / "shared"
    second, first = started(pairs, "shared", 1), started_and_at_work(pairs, "shared", 2)
    time.sleep(0.1)
    os.kill(first.pid or 0, signal.SIGKILL)
    second.join()
    first.join()
    assert second.exitcode == 0
    assert arrows(folder) == arrows(folder.with_name("whole")) and (folder / "manifest.json").is_file()


def prepare_on_a_small_disk(pairs: Path, workers: int, file_bytes: int) -> None:
    """The child's work: no file may become larger. Notes the error; ends with its exit code."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    try:
        prepare(pairs, "full", workers)
    except MmkdError as error:
        (pairs.parent / "said").write_text(str(error))
        raise SystemExit(error.exit_code) from None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_named_and_the_whole_ranges_stay(pairs: Path, workers: int) -> None:
    for n in range(8):  # the first range: small pictures
        (pairs.parent / f"{n}.jpg").write_bytes(jpeg(n))
    lines = pairs.read_text().splitlines()
    pairs.write_text("\n".join(lines[:21]))
    prepare(pairs, "whole", 0)
    whole = arrows(pairs.parent / "work" / "data" / "whole")
    first = "images/train/data-00000-of-00003.arrow"
    limit = (len(whole[first]) + len(whole["images/train/data-00001-of-00003.arrow"])) // 2
    assert len(whole[first]) < limit
    process = multiprocessing.get_context("fork").Process(target=prepare_on_a_small_disk, args=(pairs, workers, limit))
    process.start()
    process.join(120)
    said = (pairs.parent / "said").read_text()
    assert process.exitcode == 2 and "is full (File too large)" in said and "run the same command" in said
    missing = sum(len(whole[name]) for name in whole if name.startswith("images/") and name != first)
    named = int(re.search(r"about ([\d,]+) bytes", said)[1].replace(",", ""))  # type: ignore[index]
    assert missing / 2 < named < missing * 2
    folder = pairs.parent / "work" / "data" / "full"
    assert arrows(folder)[first] == whole[first] and arrows(folder).items() <= whole.items()
    assert not list(folder.rglob("*.tmp"))
    assert prepare(pairs, "full", 0) == "done" and arrows(folder) == whole
