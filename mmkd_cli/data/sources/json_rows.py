"""Rows of a bench's annotation file: a JSON list or JSON lines, not trusted, each with the place it stands at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields


def json_rows(path: Path, *, lines: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each row. Rows of a list are counted from 0, lines (of a .jsonl, or if said) from 1."""
    if lines or path.suffix == ".jsonl":
        yield from _lines(path)
        return
    _check_size(path)
    for number, row in enumerate(fields.typed(paths.read_json(path), list, f"file {path}")):
        where = f"file {path}, row {number}"
        yield where, fields.typed(row, dict, where)


def caption(row: dict[str, Any], name: str, where: str) -> str:
    """A text that is not blank."""
    text = fields.field(row, name, str, where)
    if not text.strip():
        raise UserError(f"{where}, field {name!r}: the text is empty: mend the file")
    return text


def inner_file(row: dict[str, Any], name: str, where: str) -> str:
    """A path that stays in its folder."""
    return fields.inner_path(fields.field(row, name, str, where), f"{where}, field {name!r}")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    _check_size(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"file {path}, line {number}"
                    yield where, fields.typed(_parsed(line, where), dict, where)
    except UnicodeDecodeError:
        raise UserError(f"file {path} is not UTF-8: save it as UTF-8") from None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise UserError(f"{where} is not JSON ({error}): mend it") from None


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"file {path} is not there")
    if path.stat().st_size > fields.MOST_JSON_BYTES:
        raise UserError(f"file {path} has more than {fields.MOST_JSON_BYTES:,} bytes: it can't be an annotation file")
