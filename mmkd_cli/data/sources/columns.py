"""Tables in text files: CSV, TSV and JSON lines, read row by row or as text columns of Arrow; lines of text files.

Every wrong row is named.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".jsonl")

_ROWS_AT_ONCE = 10_000


def read_columns(path: Path, needed: Mapping[str, str], optional: Sequence[str] = ()) -> pa.Table:
    """The named columns as strings, in the file's row order. An optional column that is not there is left out.

    needed: column -> the source's key that names it. UserError names the file, the row (1 is the first one after a
    header) or line, and the column.
    """
    rows = _json_rows if path.suffix == ".jsonl" else _delimited_rows
    try:
        found = _collect(rows(path, needed, optional))
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    if not found.num_rows:
        raise UserError(f"file {path} has no rows below its header")
    return found


def not_utf8(path: Path, error: UnicodeDecodeError) -> UserError:
    """What to say of a text file in another encoding."""
    return UserError(f"file {path} is not UTF-8 ({error.reason}, 0x{error.object[error.start]:02x}): save it as UTF-8")


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


def _delimited_rows(path: Path, needed: Mapping[str, str], optional: Sequence[str]) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        try:
            header = next(reader, None)
            if header is None:
                raise UserError(f"file {path} is empty: its first line must name the columns {', '.join(needed)}")
            _refuse_other_separator(path, header, needed)
            names = _present(f"the first line of file {path}", header, needed, optional)
            place = {name: header.index(name) for name in names}
            for number, row in enumerate((row for row in reader if row), 1):
                if len(row) != len(header):
                    raise UserError(
                        f"file {path}, row {number} (line {reader.line_num}): {len(row)} fields, the header has "
                        f'{len(header)}: put a field that holds the separator into "quotes"'
                    )
                yield {name: row[where] for name, where in place.items()}
        except csv.Error as error:
            raise UserError(
                f"file {path}, line {reader.line_num}, can't be read as {path.suffix[1:]} ({error}): look at its quotes"
            ) from None


def _json_rows(path: Path, needed: Mapping[str, str], optional: Sequence[str]) -> Iterator[dict[str, str]]:
    names: list[str] = []
    for where, row in json_objects(path, needed):
        names = names or _present(where, list(map(str, row)), needed, optional)
        yield {name: fields.field(row, name, str, where) for name in names}


def json_objects(path: Path, needed: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each line that is not empty; there must be one. needed: what the message says it must hold."""
    empty = True
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"file {path}, line {number}"
            try:
                value: Any = json.loads(line.rstrip())
            except json.JSONDecodeError as error:
                raise UserError(f"{where} is not JSON ({error.msg} at character {error.colno}): mend it") from None
            except (RecursionError, ValueError):
                raise UserError(f"{where} is not JSON that is read: nested too deeply, or a number too long") from None
            empty = False
            yield where, fields.typed(value, dict, where)
    if empty:
        raise UserError(f"file {path} is empty: each line must hold an object with {', '.join(needed)}")


def rows_of_file(
    path: Path, needed: Mapping[str, str], optional: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of each: all text in a CSV or TSV, any value in JSON lines; columns as in `read_columns`."""
    try:
        if path.suffix == ".jsonl":
            for where, row in json_objects(path, needed):
                names = _present(where, list(map(str, row)), needed, optional)
                yield where, {name: row[name] for name in names}
            return
        for number, row in enumerate(_delimited_rows(path, needed, optional), 1):
            yield f"file {path}, row {number}", row
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None


def read_lines(path: Path, keep_empty: bool = False) -> pa.ChunkedArray:
    """A file's lines without their ends and the white space around them; those that are empty are left out or kept."""
    import pyarrow as pa

    chunks, waiting = [], []
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for line in lines:
                if (text := line.strip()) or keep_empty:
                    waiting.append(text)
                if len(waiting) == _ROWS_AT_ONCE:
                    chunks.append(pa.array(waiting, pa.string()))
                    waiting = []
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    return pa.chunked_array([*chunks, pa.array(waiting, pa.string())], pa.string())


def _refuse_other_separator(path: Path, header: Sequence[str], needed: Mapping[str, str]) -> None:
    """A header of one field that another separator would cut is the mistake of the file's name."""
    ways = {"\t": ("tabs", "name it .tsv"), ",": ("commas", "name it .csv"), ";": ("semicolons", "save it with commas")}
    for separator, (what, advice) in ways.items():
        if len(header) == 1 and header[0] not in needed and separator in header[0]:
            raise UserError(f"file {path} looks separated by {what}, which {path.suffix} is not: {advice}")


def _present(where: str, header: Sequence[str], needed: Mapping[str, str], optional: Sequence[str]) -> list[str]:
    """The columns to read; UserError says which the file has where one that is needed is not there."""
    for name, key in needed.items():
        if name not in header:
            raise fields.no_column(where, name, header, key)
    return [*needed, *(name for name in optional if name in header)]
