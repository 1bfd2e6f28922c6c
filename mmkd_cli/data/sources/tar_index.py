"""Where each sample's picture and caption lie in tar shards (webdataset, img2dataset), as arrays.

A shard is read once, header by header, by stream; nothing is unpacked. Members that could do harm are refused by name.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.ranges import MOST_PICTURE_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
CAPTIONS = (".txt", ".caption", ".json")
"""Members that hold a caption, the first one there is used; a .json's is its `caption`."""
PICKLES = (".pkl", ".pickle", ".pyd", ".pth", ".pt")
MOST_CAPTION_BYTES = 1 << 20

_BLOCK = 512
_FLUSH_SAMPLES = 50_000


@dataclass
class TarIndex:
    """Samples of a split. keys: string [n]. picture, caption: int64 [n, 3], shard, offset and bytes of the member, -1
    where there is none. json: bool [n], whether the caption stands in JSON. digest: SHA-256 of names, sizes, captions.
    """

    shards: tuple[Path, ...]
    keys: pa.ChunkedArray
    picture: np.ndarray
    caption: np.ndarray
    json: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.picture)


@dataclass
class _Columns:
    """Rows that wait to become arrays."""

    keys: list[str] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)


def read_index(shards: Sequence[Path], limit: int = 0) -> TarIndex:
    """Index the shards in this order. UserError names the shard and the member that can't be taken."""
    import pyarrow as pa

    digest = hashlib.sha256()
    keys: list[pa.Array] = []
    parts: list[np.ndarray] = [np.empty((0, 7), dtype=np.int64)]
    waiting = _Columns()

    def flush() -> None:
        keys.append(pa.array(waiting.keys, pa.string()))
        if waiting.rows:
            parts.append(np.array(waiting.rows, dtype=np.int64))
        waiting.keys.clear()
        waiting.rows.clear()

    count = 0
    for number, shard in enumerate(shards):
        for key, row in _samples(shard, number, digest):
            waiting.keys.append(key)
            waiting.rows.append(row)
            count += 1
            if len(waiting.keys) == _FLUSH_SAMPLES:
                flush()
            if count == limit:
                break
        if limit and count == limit:
            break
    flush()
    rows = np.concatenate(parts)
    return TarIndex(tuple(shards), pa.chunked_array(keys, pa.string()), rows[:, 0:3], rows[:, 3:6],
                    rows[:, 6].astype(bool), digest.hexdigest())  # fmt: skip


def _samples(shard: Path, number: int, digest: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Key and row (picture's shard, offset, bytes; caption's the same; whether JSON) of each sample of one shard."""
    current = ""
    members: dict[str, tarfile.TarInfo] = {}
    with open(shard, "rb") as file:
        for member in _members(shard, file):
            folder, slash, base = member.name.removeprefix("./").rpartition("/")
            stem, dot, suffix = base.partition(".")
            key, suffix = f"{folder}{slash}{stem}", (dot + suffix).lower()
            if key != current:
                if members:
                    yield _sample(shard, current, number, members, file, digest)
                current, members = key, {}
            members[suffix] = member
        if members:
            yield _sample(shard, current, number, members, file, digest)


def _sample(
    shard: Path, key: str, number: int, members: dict[str, tarfile.TarInfo], file: BinaryIO, digest: Any
) -> tuple[str, tuple[int, ...]]:
    pictures = [suffix for suffix in members if suffix in PICTURES]
    if len(pictures) > 1:
        raise UserError(f"{shard}, sample {key!r}: {len(pictures)} pictures ({', '.join(pictures)}), one is needed")
    picture = members[pictures[0]] if pictures else None
    suffix = next((suffix for suffix in CAPTIONS if suffix in members), None)
    caption = members[suffix] if suffix else None
    digest.update(f"{key}\0{picture.size if picture else -1}\0".encode())
    if caption is not None:
        if caption.size > MOST_CAPTION_BYTES:
            raise UserError(f"{shard}, member {caption.name!r}: {caption.size:,} bytes are no caption")
        file.seek(caption.offset_data)
        digest.update(file.read(caption.size))
    places = [(number, m.offset_data, m.size) if m is not None else (-1, -1, -1) for m in (picture, caption)]
    return f"{shard.stem}/{key}", (*places[0], *places[1], int(suffix == ".json"))


def _members(shard: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Regular members of an uncompressed tar, each checked; memory stays flat."""
    size = shard.stat().st_size
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  (only its headers are read; `file` is closed)
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]
            _refuse(shard, member, size)
            if member.isreg():
                yield member
    except tarfile.TarError as error:
        raise UserError(f"{shard} can't be read as an uncompressed tar: {error}") from None
    file.seek(min(archive.offset, size))
    if file.read(_BLOCK).strip(b"\0"):
        raise UserError(f"{shard} is damaged at byte {archive.offset:,}: no tar header is there; get it again")


def _refuse(shard: Path, member: tarfile.TarInfo, size: int) -> None:
    where = f"{shard}, member {member.name!r}"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise UserError(f"{where}: its path leaves the archive; such archives are refused")
    if not (member.isreg() or member.isdir()):
        raise UserError(f"{where}: a link or a device; such archives are refused")
    if member.issparse():
        raise UserError(f"{where}: a sparse file; such archives are refused")
    if member.name.lower().endswith(PICKLES):
        raise UserError(f"{where}: pickled data can run code; such archives are refused")
    if member.size > MOST_PICTURE_BYTES:
        raise UserError(f"{where}: {member.size:,} bytes, more than {MOST_PICTURE_BYTES:,}")
    if member.offset_data + member.size > size:
        raise UserError(f"{shard} is cut off inside member {member.name!r}: get it again")
