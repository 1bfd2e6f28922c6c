"""Writes that are whole or not there, and what killed writers leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError


def test_only_what_dead_writers_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a writer lives is asked of the system, not of /proc, which only Linux has."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: not str(self).startswith("/proc") and exists(self))
    host = os.uname().nodename
    left, *kept = (tmp_path / f".a.json.{at}.{pid}.tmp" for at, pid in
                   ((host, dead.pid), (host, alive.pid), (host, os.getpid()), ("elsewhere", dead.pid)))  # fmt: skip
    for file in (left, *kept):
        file.write_text("half")
    try:
        paths.sweep_temporary(tmp_path)
    finally:
        alive.kill()
        alive.wait()
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UserError, match=r"a\.json can't be read: Is a directory"):
        paths.read_json(tmp_path / "a.json")
