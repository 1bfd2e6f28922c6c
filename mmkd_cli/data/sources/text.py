"""Texts without pictures: text files (a line is a text), CSV, TSV, JSONL, a `datasets` folder or hub id."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
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
    pack: int = key(
        0, "join texts that follow each other, by line breaks, to rows of at most so many; 0: each text is a row",
        source="[U]", unit="characters", absent=0, ge=0,
    )  # fmt: skip


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

        def values(first: int, last: int) -> list[str]:
            return [*texts.slice(first, last - first).to_pylist()]

        return self._table(split_name(split, where), len(texts), values)

    def _of_dataset(self, split: str, part: datasets.Dataset) -> SourceTable:
        where = f"--annotations {self.config.annotations!r}, split {split!r}"
        name = hub.column(part, self.config.text_column, where, "text_column")
        if getattr(part.features[name], "dtype", None) not in ("string", "large_string"):
            raise UserError(f"{where}: column {name!r} holds {part.features[name]}, a text is needed")
        rows = min(self.config.limit or len(part), len(part))
        texts = part.select_columns([name]).with_format("arrow")

        def values(first: int, last: int) -> list[str]:
            return [text or "" for text in texts[first:last].column(name).to_pylist()]

        return self._table(split_name(split, where), rows, values)

    def _table(self, split: str, texts: int, values: Callable[[int, int], list[str]]) -> SourceTable:
        """values(first, last): that part of a split's texts."""

        def each(first: int, last: int) -> Iterator[str]:
            for start in range(first, last, _ROWS_AT_ONCE):
                yield from values(start, min(start + _ROWS_AT_ONCE, last))

        if self.config.pack:
            starts = _starts(map(len, each(0, texts)), self.config.pack)

            def read(first: int, last: int) -> Iterator[dict[str, Any]]:
                for begin, end in pairwise(starts[first : last + 1]):
                    yield _row(begin, "\n".join(values(begin, end)))

            return SourceTable("texts", split, len(starts) - 1, text_features(), read)
        return SourceTable("texts", split, texts, text_features(),
                           lambda first, last: (_row(*row) for row in enumerate(each(first, last), first)))  # fmt: skip

    def missing(self) -> Iterator[str]:
        """Texts name no files."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files, by split."""
        if self._files:
            return {"annotations": {split: sha256_file(file, memory) for split, file in self._files.items()}}
        return {"datasets": hub.identity(self.config.annotations, self._datasets, memory)}

    def tables(self) -> Sequence[SourceTable]:
        """`texts` of each split; a text's id is its (first) line, from 0 (empty lines of a .txt are no texts)."""
        return self._tables


def _row(number: int, text: str) -> dict[str, Any]:
    return {"text_id": str(number), "text": text, "image_row": -1}


def _starts(lengths: Iterable[int], most: int) -> array[int]:
    """Where the rows begin that hold texts of these lengths, joined, and where the last one ends.

    A row has at most `most` characters, unless its only text has more.
    """
    starts, held = array("q"), most + 1
    count = 0
    for count, length in enumerate(lengths, 1):
        if held + 1 + length > most:
            starts.append(count - 1)
            held = length
        else:
            held += 1 + length
    starts.append(count)
    return starts


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
