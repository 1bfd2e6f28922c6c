"""A root that nobody may write to: each stage ends with one line and code 2, and nothing is left of it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.small_chain import distilled, make_chain, weights_file

DROP_FROM_BOUNDING_SET, DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h


def as_one_who_obeys_permissions() -> None:
    """In the child: root alone writes where no permission is; without this capability it does not either."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, DAC_OVERRIDE, 0, 0, 0)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False, preexec_fn=as_one_who_obeys_permissions,
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished chain, read-only."""
    root = make_chain(tmp_path_factory.mktemp("sealed"))
    distilled(root, "run", data="squares", cache="vit")
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    if run("-c", f"open({str(root / 'probe')!r}, 'w')").returncode == 0:
        pytest.skip("permissions hold nobody back here")
    return root


def words_of(stage: str, root: Path) -> list[str]:
    squares = root.parent / "squares"
    return {
        "prepare-data": ["--source", "flickr8k", "--images", str(squares), "--annotations",
                         str(squares / "annotations.json")],
        "cache-teacher": ["--teacher", "timm", "--arch", "test_vit", "--weights", str(weights_file(root.parent)),
                          "--data", "others"],
        "distill": ["--method", "cls-regression", "--data", "squares", "--cache", "vit", "--set",
                    "student.text=scratch"],
        "evaluate": ["--bench", "retrieval", "--model", "run", "--split", "val"],
    }[stage]  # fmt: skip


@pytest.mark.parametrize("stage", ["prepare-data", "cache-teacher", "distill", "evaluate"])
def test_a_read_only_root_is_named(stage: str, root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    done = run("-m", "mmkd_cli", stage, *words_of(stage, root), "--root", root, "--name", "new", "--device", "cpu")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith(f"mmkd: {root}") and "can't be written: Permission denied; choose another --root" in last
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
