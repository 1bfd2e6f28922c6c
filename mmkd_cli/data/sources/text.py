"""Texts without pictures: text files (a line is a text), CSV, TSV, JSONL, a `datasets` folder or hub id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources import hub
from mmkd_cli.data.sources.columns import SUFFIXES, read_columns, read_lines
from mmkd_cli.data.sources.fields import split_name
from mmkd_cli.data.tables import text_features

if TYPE_CHECKING:
    import datasets

_ROWS_AT_ONCE = 10_000


class TextConfig(Config):
    """Keys of this source."""

    name: str = key("text", "the source")
    annotations: str = key(
        description="a file (.txt, .csv, .tsv, .jsonl), a folder of them named as splits, datasets or a hub id",
        identity=False,
    )
    text_column: str = key("text", "column of tables and datasets", source="[U]")
    limit: int = key(0, "only the first texts of each split; 0: all", source="[U]", unit="texts", ge=0)


class Text:
    """`texts` with image_row -1 (`core.contracts.Source`)."""

    Config = TextConfig

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self._files = _files(Path(config.annotations).expanduser())
        self._datasets = {} if self._files else hub.open_datasets(config.annotations)
        self._tables = [
            *(self._of_file(split, file) for split, file in self._files.items()),
            *(self._of_dataset(split, part) for split, part in self._datasets.items()),
        ]
        if not any(table.rows for table in self._tables):
            raise UserError(f"--annotations {config.annotations!r} holds no texts")

    def _of_file(self, split: str, file: Path) -> SourceTable:
        where = f"file {file}"
        needed = {self.config.text_column: "text_column"}
        texts = read_lines(file) if file.suffix == ".txt" else read_columns(file, needed).column(0)
        texts = texts[: self.config.limit] if self.config.limit else texts

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for start in range(first, last, _ROWS_AT_ONCE):
                values = texts.slice(start, min(_ROWS_AT_ONCE, last - start)).to_pylist()
                yield from (_row(number, text) for number, text in enumerate(values, start))

        return SourceTable("texts", split_name(split, where), len(texts), text_features(), read)

    def _of_dataset(self, split: str, part: datasets.Dataset) -> SourceTable:
        where = f"--annotations {self.config.annotations!r}, split {split!r}"
        name = hub.column(part, self.config.text_column, where, "text_column")
        if getattr(part.features[name], "dtype", None) not in ("string", "large_string"):
            raise UserError(f"{where}: column {name!r} holds {part.features[name]}, a text is needed")
        rows = min(self.config.limit or len(part), len(part))
        texts = part.select_columns([name]).with_format("arrow")

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for start in range(first, last, _ROWS_AT_ONCE):
                values = texts[start : min(start + _ROWS_AT_ONCE, last)].column(name).to_pylist()
                yield from (_row(number, text or "") for number, text in enumerate(values, start))

        return SourceTable("texts", split_name(split, where), rows, text_features(), read)

    def missing(self) -> Iterator[str]:
        """Texts name no files."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files, by split."""
        if self._files:
            return {"annotations": {split: sha256_file(file, memory) for split, file in self._files.items()}}
        return {"datasets": hub.identity(self.config.annotations, self._datasets, memory)}

    def tables(self) -> Sequence[SourceTable]:
        """`texts` of each split; a text's id is its line, from 0 (empty lines of a .txt are no texts)."""
        return self._tables


def _row(number: int, text: str) -> dict[str, Any]:
    return {"text_id": str(number), "text": text, "image_row": -1}


def _files(path: Path) -> dict[str, Path]:
    """Split -> file: one file is train, a folder's files are the splits that they are named as."""
    kinds = (".txt", *SUFFIXES)
    if path.is_file():
        if path.suffix not in kinds:
            raise UserError(f"--annotations {path} is none of {', '.join(kinds)}")
        return {"train": path}
    if not path.is_dir():
        if path.suffix in kinds:
            raise UserError(f"--annotations {path} is no file: name the file of texts")
        return {}
    found = sorted(file for file in path.iterdir() if file.suffix in kinds and not file.name.startswith("."))
    if len({file.stem for file in found}) < len(found):
        raise UserError(f"--annotations {path}: two files of one name would be one split: keep one of them")
    return {file.stem: file for file in found}
