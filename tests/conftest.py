"""What all tests share: no hub, real data where the machine has it, the command line as a function."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.warm import Warm
from tests.warm import __file__ as warm_file

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos, annotations and weights (tests/README.md); without it the test is skipped."""
    place = os.environ.get("MMKD_TEST_DATA", "")
    if not place or not Path(place).is_dir():
        pytest.skip("MMKD_TEST_DATA names no folder of real photos, annotations and weights (tests/README.md)")
    return Path(place)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Processes that begin with everything imported (tests/warm.py)."""
    made = Warm(tmp_path_factory.mktemp("warm"))
    yield made
    made.stop()


@pytest.fixture
def mmkd(tmp_path: Path, warm: Warm) -> Run:
    """Run `mmkd ARGS...` in a process of its own; the root is tmp_path/work. `code` is the exit code to expect.

    The process begins with everything imported; a `fresh` one imports for itself, with what `env` says of that.
    """

    def run(
        *args: object, code: int = 0, env: dict[str, str] | None = None, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        words = ["-m", "mmkd_cli", *map(str, args)]
        given = {**os.environ, "MMKD_ROOT": str(tmp_path / "work"), "OMP_NUM_THREADS": "1", **(env or {})}
        command = [sys.executable, *words] if fresh else [sys.executable, "-S", warm_file, warm.start(), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=given, check=False)
        assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
        return done

    return run
