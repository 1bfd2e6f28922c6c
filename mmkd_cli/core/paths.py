"""The root, the names in it, and writes that are either whole or not there."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError

FOLDERS = {"data": "data", "cache": "caches", "run": "runs", "result": "results"}
"""Artifact kind -> folder of the root."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,199}")


def default_root() -> Path:
    """`MMKD_ROOT`, or ./mmkd-work."""
    return Path(os.environ.get("MMKD_ROOT", "mmkd-work"))


def check_name(name: str) -> str:
    """A name that stays inside its folder, or UserError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"name {name!r} can't be used: letters, digits and . _ + @ = - only, starting with a letter or digit"
        )
    return name


def fsync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Within it: UserError where the disk or its permissions let nobody write to `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UserError(f"{folder} can't be written: {error.strerror}; choose another --root") from None


@contextmanager
def enough_room(folder: Path, left: Callable[[], int]) -> Iterator[None]:
    """Within it: UserError where the disk fills. left: bytes that are still to be written to `folder`."""
    try:
        yield
    except Exception as error:  # safetensors has an error of its own
        number = error.errno if isinstance(error, OSError) else _os_error(str(error))
        if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{folder} is full ({os.strerror(number)}), about {left():,} bytes are still to be written: make room and "
            "run the same command, it goes on from what is whole"
        ) from error


def _os_error(text: str) -> int | None:
    """The number that Rust's libraries (safetensors) put into a message."""
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None


def _temporary_suffix() -> str:
    """Names the writer, so that `sweep_temporary` can tell whether it still lives."""
    return f".{os.uname().nodename}.{os.getpid()}.tmp"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; fsynced and renamed to `path` when the block ends well, removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_temporary_suffix()}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file: temporary name, fsync, rename, fsync of the folder."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Atomically write readable JSON."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def create_json(path: Path, value: Any) -> bool:
    """Create `path` with whole contents unless it exists. False if somebody else was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_temporary_suffix())
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        fsync_folder(path.parent)
        return True
    finally:
        os.unlink(temporary)


def read_json(path: Path) -> Any:
    """A JSON file of ours or of a user's; what cannot be read is named."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"file {path} is not there") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise UserError(f"file {path} is not JSON: {error}") from None
    except OSError as error:
        raise UserError(f"file {path} can't be read: {error.strerror}") from None


def sweep_temporary(folder: Path) -> None:
    """Remove what killed writers of this host left behind in `folder` (a live writer's pid keeps its file)."""
    for path in folder.glob(f".*.{os.uname().nodename}.*.tmp"):
        pid = path.name.rsplit(".", 2)[-2]
        if pid.isdigit() and not _lives(int(pid)):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    """Whether this host has a process of this number."""
    try:
        os.kill(pid, 0)  # signal 0 is not sent, only checked
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; a number that is no process's
        return True
    return True
