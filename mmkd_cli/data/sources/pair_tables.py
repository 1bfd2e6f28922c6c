"""Pairs of picture path and caption in a CSV, TSV or JSONL. Rows with the same path are one picture, several texts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources.columns import read_columns
from mmkd_cli.data.sources.fields import split_name
from mmkd_cli.data.sources.picture_files import PictureFiles, folder_of, listing, locate, without_suffix
from mmkd_cli.data.tables import text_table

if TYPE_CHECKING:
    import pyarrow as pa

    from mmkd_cli.data.sources.image_text import ImageTextConfig


class PairTable:
    """Pictures and texts of a table file. Pictures lie in --images, else beside the file, or at absolute paths."""

    def __init__(self, config: ImageTextConfig, file: Path) -> None:
        self._file = file
        images = [folder_of(config.images, "--images").absolute()] if config.images else []
        self._folders = [*images, file.absolute().parent]
        path, caption, split = config.path_column, config.caption_column, config.split_column
        rows = read_columns(file, {path: "path_column", caption: "caption_column"}, (split,))
        self._pictures: list[PictureFiles] = []
        self._texts: list[SourceTable] = []
        for name, part in _by_split(rows, split, file):
            self._add(name, part, part.column(path), part.column(caption), config.limit)

    def _add(self, split: str, part: pa.Table, paths: pa.ChunkedArray, captions: pa.ChunkedArray, limit: int) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        encoded = paths.combine_chunks().dictionary_encode()
        files, rows = encoded.dictionary, encoded.indices.cast(pa.int64())
        if limit:
            kept = pc.less(rows, limit)
            files, rows, captions, part = files[:limit], rows.filter(kept), captions.filter(kept), part.filter(kept)
        if (empty := pc.index(files, "").as_py()) >= 0:
            first = part.column("row")[pc.index(rows, empty).as_py()].as_py()
            raise UserError(f"file {self._file}, row {first}: the path is empty")
        shown = shown_names(files.to_pylist(), self._folders)
        ids = [without_suffix(name) for name in shown]
        if len(set(ids)) < len(ids):  # a.jpg beside a.png
            ids = shown
        self._pictures.append(
            locate(split, {"image_id": pa.array(ids), "file": files, "source": pa.array(shown)}, self._folders)
        )
        text_ids = part.column("row").cast(pa.string())
        self._texts.append(text_table(split, pa.table({"text_id": text_ids, "text": captions, "image_row": rows})))

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are named and not there."""
        for pictures in self._pictures:
            yield from pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the table; listing of the pictures."""
        return {"annotations": sha256_file(self._file, memory), "images": listing(self._pictures)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `texts` of each split; a text's id is its row in the file, from 1."""
        return [*(pictures.table() for pictures in self._pictures), *self._texts]


def _by_split(rows: pa.Table, split: str, file: Path) -> Iterator[tuple[str, pa.Table]]:
    """Each split with its rows, in the file's order, and a column `row` (from 1); all rows are train without one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = rows.append_column("row", pa.array(range(1, rows.num_rows + 1), pa.int64()))
    if split not in rows.column_names:
        yield "train", rows
        return
    for name in pc.unique(rows.column(split)).to_pylist():
        part = rows.filter(pc.equal(rows.column(split), name))
        yield split_name(name, f"file {file}, row {part.column('row')[0].as_py()}, column {split!r}"), part


def shown_names(paths: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names that move with the pictures: relative to the first folder that holds all of them, else to the one that
    they have in common."""
    whole = [os.path.normpath(os.path.join(folders[0], path)) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    for folder in map(str, folders):
        if common == folder or common.startswith(folder + os.sep):
            return [os.path.relpath(path, folder) for path in whole]
    return [os.path.relpath(path, common) for path in whole]
