"""Finished artifacts behind a URL of fsspec (s3://, gs://, https://, file://): copied to the root once, then mapped."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from mmkd_cli.core import artifacts, console, paths
from mmkd_cli.core.artifacts import Artifact, FileRecord
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.fingerprints import sha256_json
from mmkd_cli.core.locks import Lock

FOLDER = ".remote"
"""Of the root: HASH/NAME is the copy of the artifact NAME, HASH that of its URL."""


def is_url(name: str) -> bool:
    return "://" in name


def local_copy(root: Path, url: str) -> Path:
    """The folder of the copy, made if it is not there: the manifest first, then each file, checked by size and hash.

    A copy that was cut off goes on. A copy that is whole asks the URL nothing more: remove it to have it made again.
    """
    url = url.rstrip("/")
    name = paths.check_name(url.rpartition("/")[2])
    folder = root / FOLDER / sha256_json(url)[:16]
    copy = folder / name
    if copy.is_dir():
        return copy
    lock = Lock(folder.with_name(f"{folder.name}.lock"), url)
    lock.acquire(block=True)
    try:
        if not copy.is_dir():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            _fetch(url, unfinished / name)
            unfinished.rename(folder)
            paths.fsync_folder(folder.parent)
    finally:
        lock.release()
    return copy


def _fetch(url: str, folder: Path) -> None:
    import fsspec

    try:
        system, base = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UserError(f"{url} can't be opened: {_first_line(error)}") from None
    for name in ("manifest.json", "plan.json"):
        _copy(system, base, url, folder, name)
    artifact = artifacts.read(folder)
    todo = [name for name, record in artifact.files.items() if not _is_there(artifact, _inside(url, name), record)]
    needed, free = sum(artifact.files[name].bytes for name in todo), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free:,} bytes free, the copy of {url} needs {needed:,}: free {needed - free:,} bytes more, "
            "or choose another --root"
        )
    console.say(f"copying {url} to {folder.parent.parent}: {len(todo):,} files, {needed:,} bytes")
    with console.progress(f"copying {artifact.label}", needed, "bytes") as meter:
        for name in todo:
            _copy(system, base, url, folder, name, artifact.files[name])
            meter.advance(artifact.files[name].bytes)


def _inside(url: str, name: str) -> str:
    """A file's name of a manifest. Refused if it leads out of the artifact's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise Refused(f"{url}/manifest.json names the file {name!r}, outside its folder: this is no artifact of mmkd's")
    return name


def _is_there(artifact: Artifact, name: str, record: FileRecord) -> bool:
    path = artifact.path / name
    return path.is_file() and path.stat().st_size == record.bytes and FileRecord.of(path) == record


def _copy(system: Any, base: str, url: str, folder: Path, name: str, record: FileRecord | None = None) -> None:
    """One file, whole or not at all. Refused where its bytes are not those that `record` says."""
    with paths.atomic_path(folder / name) as temporary:
        try:
            system.get_file(f"{base}/{name}", str(temporary))
        except FileNotFoundError:
            if record is None:
                raise UserError(f"{url} is no finished artifact: it holds no {name}") from None
            raise Refused(f"{url} is damaged: it holds no {name}: mend it there, by the command that made it") from None
        except Exception as error:  # each file system has errors of its own
            raise UserError(f"{url}/{name} can't be read: {_first_line(error)}") from None
        if record is not None and (found := FileRecord.of(temporary)) != record:
            size = f"{found.bytes:,} bytes of {record.bytes:,}" if found.bytes != record.bytes else "other bytes"
            raise Refused(f"{url} is damaged: {name} has {size}: mend it there, by the command that made it")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
