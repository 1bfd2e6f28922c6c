"""What somebody's model said of items with one right answer: GQA, SNLI-VE, NLVR2, NLVR, DAQUAR."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows
from mmkd_cli.data.sources.judged import plain_text, truth


def read_said(path: Path, id_fields: Sequence[str], answer_fields: Sequence[str]) -> list[tuple[str, str]]:
    """(id, answer) of a JSON list or JSON lines, by the first of each fields that a row has."""
    found = []
    for where, row in json_rows(path):
        one, answer = (next((n for n in names if n in row), names[0]) for names in (id_fields, answer_fields))
        found.append((fields.id_of(row, one, where), fields.field(row, answer, str, where)))
    return found


def read_said_csv(path: Path) -> list[tuple[str, str]]:
    """(identifier, true or false) of NLVR's CSV without a header."""
    found = []
    for number, row in enumerate(csv.reader(plain_text(path).splitlines()), 1):
        where = f"file {path}, line {number}"
        if len(row) != 2:
            raise UserError(f"{where}: IDENTIFIER,True or IDENTIFIER,False is needed, not {','.join(row)[:80]!r}")
        found.append((row[0].strip(), truth(row[1].strip(), where)))
    return found


def read_said_lines(path: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Answers a line each, in the order of the items."""
    lines = plain_text(path).splitlines()
    if len(lines) != len(ids):
        raise UserError(f"predictions {path}: {len(lines):,} lines, {len(ids):,} questions: give an answer a line")
    return [(one, line.strip()) for one, line in zip(ids, lines, strict=True)]
