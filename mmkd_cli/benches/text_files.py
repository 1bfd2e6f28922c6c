"""Texts of a file, and references for each: lines, or JSON rows with or without ids.

Lines are numbered from 1. In a file of references tabs part a line: what stands before the first one is the source,
what follows are its references (as in the human references of Yelp style transfer).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.benches.result_files import Results, in_order
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows

_JSON = (".json", ".jsonl")


References = list[tuple[str | None, list[str]]]
"""(id, or None where the file has none; the texts that a text is compared with) in the file's order."""


def paired_texts(
    predictions: Path, names: Sequence[str], true: References, where: str, skipped: frozenset[str] = frozenset()
) -> tuple[list[str], list[str], list[list[str]]]:
    """(ids [n], texts [n], references of each [n]). names: the fields that may hold the text of a JSON row, the first
    that is there. where: what the references are. skipped: ids of those that are not scored.

    Matched by ids where both have them, else line by line.
    """
    said = _texts(predictions, names)
    if not true:
        raise UserError(f"{where}: there are none")
    for path, rows in ((where, true), (f"{predictions}", said)):
        without = [number for number, (one, _) in enumerate(rows) if one is None]
        if 0 < len(without) < len(rows):
            raise UserError(
                f"{path}, row {without[0]}: field 'id' is missing, other rows have one: give it to all or none"
            )
    by_id = all(one is not None for one, _ in (*true, *said))
    ids = [one if by_id and one is not None else str(number) for number, (one, _) in enumerate(true, 1)]
    if len(set(ids)) < len(ids):
        doubled = next(one for one, times in Counter(ids).items() if times > 1)
        raise UserError(f"{where}: two rows have the id {doubled!r}")
    results: Results = [
        (one if by_id and one is not None else str(number), text) for number, (one, text) in enumerate(said, 1)
    ]
    texts = in_order(results, ids, predictions, "id" if by_id else "line", skipped if by_id else frozenset())
    return ids, texts, [several for _, several in true]


def _texts(path: Path, names: Sequence[str]) -> list[tuple[str | None, str]]:
    if path.suffix not in _JSON:
        return [(None, line) for line in _lines(path)]
    return [(_id(row, where), _one_of(row, names, where)) for where, row in json_rows(path)]


def read_references(path: Path, names: Sequence[str]) -> References:
    """names: the fields that may hold the text of a JSON row without `references`."""
    if path.suffix not in _JSON:
        return [(None, parts[1:] or parts) for parts in (line.split("\t") for line in _lines(path))]
    found: References = []
    for where, row in json_rows(path):
        if "references" in row:
            texts = [fields.typed(text, str, where) for text in fields.field(row, "references", list, where)]
        else:
            texts = [_one_of(row, names, where)]
        if not texts:
            raise UserError(f"{where}, field 'references': there are none")
        found.append((_id(row, where), texts))
    return found


def _id(row: dict[str, Any], where: str) -> str | None:
    return fields.id_of(row, "id", where) if "id" in row else None


def _one_of(row: dict[str, Any], names: Sequence[str], where: str) -> str:
    name = next((name for name in names if name in row), names[0])
    return fields.field(row, name, str, where)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"file {path} is not there")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"file {path} is not UTF-8: save it as UTF-8") from None
    return text.removesuffix("\n").split("\n") if text else []
