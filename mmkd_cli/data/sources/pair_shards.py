"""Pairs in tar shards, as webdataset and img2dataset write them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.tar_index import TarIndex, read_index
from mmkd_cli.data.tables import image_features, text_features

if TYPE_CHECKING:
    from mmkd_cli.data.sources.image_text import ImageTextConfig


def shards_of(path: Path) -> dict[str, list[Path]]:
    """Split -> shards in the order of their names: one .tar, a folder of them (train), or folders named as splits."""
    if path.is_file():
        return {"train": [path]} if path.suffix == ".tar" else {}
    if not path.is_dir():
        return {}
    if found := sorted(path.glob("*.tar")):
        return {"train": found}
    return {folder.name: found for folder in sorted(path.iterdir()) if (found := sorted(folder.glob("*.tar")))}


class PairShards:
    """Pictures and texts of tar shards; each is read at its place in the shard when its row is written."""

    def __init__(self, config: ImageTextConfig, shards: dict[str, list[Path]]) -> None:
        self._splits = {
            fields.split_name(split, f"folder {found[0].parent}"): read_index(found, config.limit)
            for split, found in shards.items()
        }
        if not sum(map(len, self._splits.values())):
            raise UserError(f"--annotations {config.annotations!r}: the shards hold no samples")

    def missing(self) -> Iterator[str]:
        """Samples without a picture."""
        for index in self._splits.values():
            for row in np.flatnonzero(index.picture[:, 0] < 0).tolist():
                yield f"{index.keys[row].as_py()} (no picture in the shard)"

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Names, sizes and captions of all samples."""
        return {"samples": {split: index.digest for split, index in self._splits.items()}}

    def tables(self) -> Sequence[SourceTable]:
        """`images` of all samples, `texts` of those with a caption."""
        return [
            table for split, index in self._splits.items() for table in (_images(split, index), _texts(split, index))
        ]


def _images(split: str, index: TarIndex) -> SourceTable:
    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        for row, data in zip(range(first, last), _members(index, index.picture[first:last]), strict=True):
            key = index.keys[row].as_py()
            yield {"image_id": key, "image": data, "source": key}

    return SourceTable("images", split, len(index), image_features(), read)


def _texts(split: str, index: TarIndex) -> SourceTable:
    rows = np.flatnonzero(index.caption[:, 0] >= 0)

    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        mine = rows[first:last]
        for row, data in zip(mine.tolist(), _members(index, index.caption[mine]), strict=True):
            key = index.keys[row].as_py()
            text = _caption(data or b"", bool(index.json[row]), f"sample {key!r}")
            yield {"text_id": key, "text": text, "image_row": row}

    return SourceTable("texts", split, len(rows), text_features(), read)


def _caption(data: bytes, in_json: bool, where: str) -> str:
    try:
        text = data.decode()
        if in_json:
            text = fields.field(fields.typed(json.loads(text), dict, where), "caption", str, where)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: its caption can't be read: {error}") from None
    return text.strip()


def _members(index: TarIndex, places: np.ndarray) -> Iterator[bytes | None]:
    """Bytes of members at (shard, offset, bytes) [n, 3]; None where there is none. Keeps one shard open."""
    opened = -1
    with ExitStack() as files:
        for shard, offset, size in places.tolist():
            if shard < 0:
                yield None
                continue
            if shard != opened:
                files.close()
                handle = files.enter_context(open(index.shards[shard], "rb")).fileno()
                opened = shard
            yield os.pread(handle, size, offset)
