"""`texts` with columns of a source's own (a summary, a label, references): from tables in files, or from `datasets`.

A source says by a `Record` what a row of its files holds; ids and what does not fit are checked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources import hub
from mmkd_cli.data.sources.columns import SUFFIXES, rows_of_file
from mmkd_cli.data.sources.fields import listed, no_column, typed, usual_split
from mmkd_cli.data.tables import rows_of, text_features

if TYPE_CHECKING:
    import datasets

_ROWS_AT_ONCE = 1000

Record = Callable[[dict[str, Any], str], dict[str, Any]]
"""A file's row, and where it stands -> `text`, the source's own columns, `problem` where it can't be used."""


@dataclass(frozen=True)
class Columns:
    """What is read of a table. needed: column -> the source's key that names it, "" where none does. number: the
    column with the text's id, where there is one; else its place in the split, from 0."""

    needed: Mapping[str, str]
    optional: Sequence[str] = ()
    number: str = ""

    @property
    def every(self) -> list[str]:
        return [*self.optional, *([self.number] if self.number else [])]


@dataclass
class Parts:
    """Splits as they are found. more: features of the source's own columns. limit: rows of each; 0: all."""

    more: Mapping[str, Any]
    limit: int = 0
    tables: dict[str, SourceTable] = field(default_factory=dict)

    def add(self, split: str, rows: int, read: Callable[[int, int], Iterator[dict[str, Any]]], where: str) -> None:
        """A split by its usual name; `read` yields rows of `texts` without image_row."""
        name = usual_split(split, where)
        if name in self.tables:
            raise UserError(f"{where} is split {name!r}, which another one is, too: keep one of them")

        def complete(first: int, last: int) -> Iterator[dict[str, Any]]:
            for row in read(first, last):
                yield {"image_row": -1, **row}

        rows = min(self.limit or rows, rows)
        self.tables[name] = SourceTable("texts", name, rows, text_features(self.more), complete)

    def add_rows(self, split: str, found: Iterable[tuple[str, dict[str, Any]]], record: Record, where: str,
                 number: str = "") -> None:  # fmt: skip
        """A split whose rows (where each stands, row) are held in memory. number: as in `Columns`."""
        import pyarrow as pa

        schema = text_features(self.more).arrow_schema.append(pa.field("problem", pa.string()))
        batches, waiting, times = [], [], Counter[str]()
        for place, (at, row) in enumerate(found):
            one = _id(row, number, place, at)
            times[one] += 1
            if times[one] > 1:
                raise UserError(f"{at}: two rows have the id {one!r}: keep one of them")
            if not self.limit or place < self.limit:
                waiting.append({"text_id": one, "image_row": -1, "problem": "", **record(row, at)})
            if len(waiting) == _ROWS_AT_ONCE:
                batches.append(pa.RecordBatch.from_pylist(waiting, schema=schema))
                waiting = []
        table = pa.Table.from_batches([*batches, pa.RecordBatch.from_pylist(waiting, schema=schema)])
        if not table.num_rows:
            raise UserError(f"{where} holds no rows")
        self.add(
            split, table.num_rows, lambda first, last: map(_without_empty_problem, rows_of(table, first, last)), where
        )

    def add_files(self, files: Mapping[str, Path], columns: Columns, record: Record) -> None:
        """A CSV, TSV or JSONL of each split."""
        for split, file in files.items():
            found = rows_of_file(file, columns.needed, columns.every)
            self.add_rows(split, found, record, f"file {file}", columns.number)

    def add_datasets(self, found: Mapping[str, datasets.Dataset], columns: Columns, record: Record, name: str) -> None:
        """Splits of `datasets`, read when they are written."""
        for split, part in found.items():
            self._add_dataset(split, part, columns, record, f"--annotations {name!r}, split {split!r}")

    def _add_dataset(self, split: str, part: datasets.Dataset, columns: Columns, record: Record, where: str) -> None:
        for name, key in columns.needed.items():
            if name not in part.column_names:
                raise no_column(where, name, part.column_names, key)
        kept = [*columns.needed, *(name for name in columns.every if name in part.column_names)]
        rows = part.select_columns(kept).with_format("arrow")
        if columns.number in kept:
            ids = Counter(map(str, rows[:].column(columns.number).to_pylist()))
            if len(ids) < len(part):
                raise UserError(f"{where}: two rows have the id {ids.most_common(1)[0][0]!r}: keep one of them")

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for start in range(first, last, _ROWS_AT_ONCE):
                for place, row in enumerate(rows[start : min(start + _ROWS_AT_ONCE, last)].to_pylist(), start):
                    at = f"{where}, row {place}"
                    yield {"text_id": _id(row, columns.number, place, at), **record(row, at)}

        self.add(split, len(part), read, where)


def _id(row: Mapping[str, Any], name: str, place: int, where: str) -> str:
    value = row.get(name, place) if name else place
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return typed(value, str, f"{where}, column {name!r}")


def _without_empty_problem(row: dict[str, Any]) -> dict[str, Any]:
    return row if row["problem"] else {name: value for name, value in row.items() if name != "problem"}


def table_files(place: Path) -> dict[str, Path]:
    """Split -> CSV, TSV or JSONL: those of a folder by their names; one file is train where its name says no split."""
    if place.is_file() and place.suffix in SUFFIXES:
        return {place.stem if place.stem in _SPLITS else "train": place}
    if not place.is_dir():
        return {}
    found = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    if len({file.stem for file in found}) < len(found):
        raise UserError(f"--annotations {place}: two files of one name would be one split: keep one of them")
    return {file.stem: file for file in found}


_SPLITS = ("train", "val", "valid", "validation", "dev", "test")


def texts_of(row: Mapping[str, Any], names: Sequence[str], where: str) -> list[str]:
    """The texts in these columns; None counts as empty."""
    return [typed(row.get(name) or "", str, f"{where}, column {name!r}") for name in names]


def label_of(value: Any, names: Sequence[str], where: str) -> int:
    """A label by its number or its name; -1, None and "" mean that there is none."""
    if value in (None, "", -1, "-1"):
        return -1
    by_name = {name: number for number, name in enumerate(names)} | {str(n): n for n in range(len(names))}
    if isinstance(value, bool) or str(value) not in by_name:
        raise UserError(f"{where}: label {value!r} is none of {listed(by_name)}{nearest(str(value), names)}")
    return by_name[str(value)]


def identity(name: str, files: Mapping[str, Path | Sequence[Path]], found: Mapping[str, datasets.Dataset],
             memory: Path | None) -> dict[str, Any]:  # fmt: skip
    """SHA-256 of the files by split, or of what `datasets` opened."""
    if not files:
        return {"datasets": hub.identity(name, dict(found), memory)}
    hashed = {
        split: sha256_file(of, memory) if isinstance(of, Path) else [sha256_file(one, memory) for one in of]
        for split, of in files.items()
    }
    return {"annotations": hashed}
