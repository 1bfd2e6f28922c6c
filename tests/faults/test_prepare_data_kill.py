"""prepare-data killed at random moments goes on and ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.data.made_pictures import jpeg

PICTURES, KILLS = 160, 5


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


@pytest.mark.parametrize("workers", [0, 2])
def test_sigkill_at_random_moments(mmkd: Run, tmp_path: Path, workers: int) -> None:
    lines = ["path,caption"]
    for n in range(PICTURES):
        (tmp_path / f"{n}.jpg").write_bytes(jpeg(n % 4, 1100, 900))
        lines.append(f"{n}.jpg,text {n}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    args = ["prepare-data", "--source", "image-text", "--annotations", "pairs.csv", "--workers", str(workers),
            "--set", "rows_per_range=8", "--name"]  # fmt: skip
    mmkd(*args, "whole")
    folder = tmp_path / "work" / "data" / "killed"
    rng, killed = random.Random(workers), 0
    while killed < KILLS:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmkd_cli", *args, "killed"],
            cwd=tmp_path,
            env={**os.environ, "MMKD_ROOT": str(tmp_path / "work"), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        before = len(arrows(folder)) if folder.exists() else 0
        while process.poll() is None and (not folder.exists() or len(list(folder.rglob(".*.tmp"))) == 0):
            time.sleep(0.002)  # until it is at work
        time.sleep(rng.uniform(0, 0.15))
        helpers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        killed += 1
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in helpers):
            assert time.monotonic() < deadline, "a worker outlived its parent"
            time.sleep(0.01)
        assert len(arrows(folder)) >= before
    assert killed >= KILLS - 1
    assert not (folder / "manifest.json").exists()
    mmkd(*args, "killed")
    assert arrows(folder) == arrows(folder.with_name("whole"))
    assert not list(folder.rglob(".*")), "a killed writer's leavings are swept"
    assert "already done" in mmkd(*args, "killed").stderr
