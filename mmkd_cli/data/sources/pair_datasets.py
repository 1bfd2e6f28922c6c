"""Pairs in `datasets`: an image column, and a caption column that holds a text or a list of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import hub
from mmkd_cli.data.sources.fields import split_name
from mmkd_cli.data.tables import image_features, text_features

if TYPE_CHECKING:
    import datasets

    from mmkd_cli.data.sources.image_text import ImageTextConfig


class PairDatasets:
    """Pictures and texts of `datasets`; rows are read from its own files when they are written."""

    def __init__(self, config: ImageTextConfig) -> None:
        self.config = config
        self._found = hub.open_datasets(config.annotations)
        self._splits: dict[str, datasets.Dataset] = {}
        for split, part in self._found.items():
            self._splits[split_name(split, f"--annotations {config.annotations!r}")] = self._checked(split, part)

    def _checked(self, split: str, part: datasets.Dataset) -> datasets.Dataset:
        import datasets

        where = f"--annotations {self.config.annotations!r}, split {split!r}"
        part = hub.picture_column(part, self.config.image_column, where, "image_column")
        caption = hub.column(part, self.config.caption_column, where, "caption_column")
        kind = part.features[caption]
        texts = kind.feature if isinstance(kind, (datasets.List, datasets.LargeList)) else kind
        if getattr(texts, "dtype", None) not in ("string", "large_string"):
            raise UserError(f"{where}: column {caption!r} holds {kind}, a text or a list of texts is needed")
        if self.config.limit:
            return part.select(range(min(self.config.limit, len(part))))
        return part

    def missing(self) -> Iterator[str]:
        """Nothing is known to be missing before it is read."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files."""
        return {"datasets": hub.identity(self.config.annotations, self._found, memory)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `texts` of each split."""
        return [
            table
            for split, part in self._splits.items()
            for table in (_images(split, part, self.config), _texts(split, part, self.config))
        ]


def _images(split: str, part: datasets.Dataset, config: ImageTextConfig) -> SourceTable:
    named = "image_id" if "image_id" in part.column_names else None
    rows = part.select_columns([config.image_column, *([named] if named else [])])

    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        for number in range(first, last):
            row = rows[number]
            yield hub.image_row(str(row[named]) if named else str(number), row[config.image_column])

    return SourceTable("images", split, len(rows), image_features(), read)


def _texts(split: str, part: datasets.Dataset, config: ImageTextConfig) -> SourceTable:
    import pyarrow.compute as pc

    rows = part.select_columns([config.caption_column]).with_format("arrow")
    many = not hasattr(part.features[config.caption_column], "dtype")
    counts = np.ones(len(part), dtype=np.int64)
    if many:
        for first in range(0, len(part), 10_000):
            lengths = pc.list_value_length(rows[first : first + 10_000].column(config.caption_column))
            counts[first : first + 10_000] = pc.fill_null(lengths, 0).to_numpy()
    ends = np.cumsum(counts)

    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        """Texts [first, last): those of image rows in which they lie."""
        number = first
        for row in range(int(np.searchsorted(ends, first, side="right")), len(counts)):
            if number >= last:
                return
            value = rows[row].column(config.caption_column)[0].as_py()
            texts = (value or []) if many else [value or ""]
            for place in range(number - int(ends[row] - counts[row]), len(texts)):
                if number >= last:
                    return
                name = f"{row}#{place}" if many else str(row)
                yield {"text_id": name, "text": texts[place] or "", "image_row": row}
                number += 1

    return SourceTable("texts", split, int(ends[-1]) if len(ends) else 0, text_features(), read)
