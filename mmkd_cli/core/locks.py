"""Locks that die with their holder (flock) and say who holds them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from mmkd_cli.core import paths
from mmkd_cli.core.errors import Refused

_held: set[Lock] = set()


def _close_in_child() -> None:
    """A forked child (a data loader's worker) holds no lock: if it outlives its parent, the lock is free all the same.

    Closing its copy of the descriptor leaves the parent's lock alone.
    """
    for lock in _held:
        lock.forget()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


class Lock:
    """An exclusive lock file. `acquire(block=False)` returns whether it was got; `with` refuses when it is held."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self._handle: int | None = None

    def acquire(self, block: bool = False) -> bool:
        with paths.writable(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with paths.writable(self.path.parent):
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(handle)
                return False
            try:  # the holder may have removed the file between our open and our lock
                same = os.fstat(handle).st_ino == os.stat(self.path).st_ino
            except FileNotFoundError:
                same = False
            if same:
                break
            os.close(handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.uname().nodename} pid {os.getpid()}".encode(), 0)
        self._handle = handle
        _held.add(self)
        return True

    def release(self) -> None:
        if self._handle is not None:
            self.path.unlink(missing_ok=True)
            _held.discard(self)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor and leave the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def holder(self) -> str:
        """`HOST pid N` of whoever holds it, as far as the file says."""
        try:
            return self.path.read_text() or "another process"
        except FileNotFoundError:
            return "another process"

    def __enter__(self) -> Lock:
        if not self.acquire():
            raise Refused(f"{self.what} is being written by {self.holder()}: wait for it, or stop it")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
