"""What all tests share: no hub, real data where the machine has it, the command line as a function."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos, annotations and weights (tests/README.md); without it the test is skipped."""
    place = os.environ.get("MMKD_TEST_DATA", "")
    if not place or not Path(place).is_dir():
        pytest.skip("MMKD_TEST_DATA names no folder of real photos, annotations and weights (tests/README.md)")
    return Path(place)


@pytest.fixture
def mmkd(tmp_path: Path) -> Run:
    """Run `mmkd ARGS...` in a process of its own; the root is tmp_path/work. `code` is the exit code to expect."""

    def run(*args: object, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "mmkd_cli", *map(str, args)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "MMKD_ROOT": str(tmp_path / "work"), "OMP_NUM_THREADS": "1", **(env or {})},
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
        return done

    return run
