"""Tables in text files: CSV, TSV and JSON lines to text columns, held as Arrow. Every wrong row is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.sources import fields

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".jsonl")

_ROWS_AT_ONCE = 10_000


def read_columns(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """The named columns as strings, in the file's row order. An optional column that is not there is left out.

    UserError names the file, the row (1 is the first one after a header) and the column.
    """
    rows = _json_rows if path.suffix == ".jsonl" else _delimited_rows
    try:
        return _collect(rows(path, needed, optional))
    except UnicodeDecodeError as error:
        raise UserError(f"file {path} is not UTF-8: {error}") from None
    except (csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"file {path} can't be read as {path.suffix[1:]}: {error}") from None


def _collect(rows: Iterator[dict[str, str]]) -> pa.Table:
    """Rows with the same keys each to one table."""
    import pyarrow as pa

    names: list[str] = []
    batches = []
    waiting: list[dict[str, str]] = []

    def flush() -> None:
        columns = [pa.array([row[name] for row in waiting], pa.string()) for name in names]
        batches.append(pa.RecordBatch.from_arrays(columns, names=names))
        waiting.clear()

    for row in rows:
        names = names or list(row)
        waiting.append(row)
        if len(waiting) == _ROWS_AT_ONCE:
            flush()
    flush()
    return pa.Table.from_batches(batches)


def _delimited_rows(path: Path, needed: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        header = next(reader, [])
        place = {name: header.index(name) for name in _present(header, needed, optional, f"file {path}, header")}
        for number, row in enumerate((row for row in reader if row), 1):
            if len(row) != len(header):
                raise UserError(
                    f"file {path}, row {number}: {len(row)} fields, the header has {len(header)}: "
                    'put a field that holds the separator into "quotes"'
                )
            yield {name: row[where] for name, where in place.items()}


def _json_rows(path: Path, needed: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, str]]:
    names: list[str] = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate((line for line in file if line.strip()), 1):
            where = f"file {path}, row {number}"
            try:
                value: Any = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise UserError(f"{where} is not JSON: {error}") from None
            row = fields.typed(value, dict, where)
            names = names or _present(list(map(str, row)), needed, optional, where)
            yield {name: fields.field(row, name, str, where) for name in names}


def _present(header: Sequence[str], needed: Sequence[str], optional: Sequence[str], where: str) -> list[str]:
    """The columns to read; a needed one that is not there is an error with the nearest name."""
    for name in needed:
        if name not in header:
            raise UserError(f"{where}: column {name!r} is missing{nearest(name, header)}")
    return [*needed, *(name for name in optional if name in header)]
