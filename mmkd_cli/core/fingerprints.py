"""Hashes: canonical JSON and SHA-256 for identity, XXH3-128 for integrity.

Identity says what was asked for and what a result is; integrity says whether the bytes are still those written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import xxhash

_CHUNK_BYTES = 1 << 22

_NOTES: ContextVar[bool] = ContextVar("notes", default=True)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def xxh3_file(path: Path) -> str:
    """XXH3-128 (hex) of a file's bytes."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def xxh3_bytes(data: bytes | memoryview) -> str:
    """XXH3-128 (hex) of bytes."""
    return xxhash.xxh3_128(data).hexdigest()


def sha256_file(path: Path, memory: Path | None = None) -> str:
    """SHA-256 (hex) of a file; of a folder, that of its files' names and hashes.

    With `memory` (a folder below the root) the hash is remembered by absolute path, size and mtime, so that
    gigabytes of weights are read once.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return sha256_json({p.relative_to(path).as_posix(): sha256_file(p, memory) for p in files})
    stat = path.stat()
    key = sha256_json([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    note = memory / key if memory else None
    if note is not None and note.is_file():
        known = note.read_text()
        if len(known) == 64:
            return known
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (
        note is not None
        and _NOTES.get()
        and os.access(note.parent if note.parent.exists() else note.parent.parent, os.W_OK)
    ):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f".{note.name}.{os.getpid()}")
        temporary.write_text(digest)
        temporary.replace(note)
    return digest


@contextmanager
def without_notes() -> Iterator[None]:
    """Within it `sha256_file` reads its memory and adds nothing: a dry run writes nothing. A decorator, too."""
    token = _NOTES.set(False)
    try:
        yield
    finally:
        _NOTES.reset(token)
