"""Result files that somebody's model wrote: a text for each item of a bench, matched to the items by their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows

FIRST = 3
"""Ids that a refusal names."""

Results = list[tuple[str, str]]
"""(id, text) in the file's order."""

Said = TypeVar("Said")


def read_results(path: Path, id_field: str, text_field: str) -> Results:
    """A JSON list (or JSON lines) of objects, as official scorers take it."""
    return [
        (fields.id_of(row, id_field, where), fields.field(row, text_field, str, where))
        for where, row in json_rows(path)
    ]


def in_order(
    results: Sequence[tuple[str, Said]], ids: Sequence[str], path: Path, what: str,
    skipped: frozenset[str] = frozenset(),
) -> list[Said]:  # fmt: skip
    """What was said of `ids`; UserError where ids are missing, are not of the bench, or stand twice.

    what: the ids' name, as the file spells it. skipped: ids of the bench that are not scored, and may be there.
    """
    times = Counter(one for one, _ in results if one not in skipped)
    wanted = dict.fromkeys(ids)
    complaints = [
        _complaint([one for one in wanted if one not in times], f"of {len(wanted):,} are missing"),
        _complaint([one for one in times if one not in wanted], "are not in the annotations"),
        _complaint([one for one, count in times.items() if count > 1], "stand there more than once"),
    ]
    if any(complaints):
        said = "; ".join(filter(None, complaints))
        raise UserError(f"predictions {path}, {what}: {said}: give one line for each item of the annotations")
    texts = dict(results)
    return [texts[one] for one in ids]


def _complaint(ids: Sequence[str], problem: str) -> str:
    """Their count and the first few, or an empty string."""
    named = ", ".join(map(repr, ids[:FIRST]))
    return f"{len(ids):,} {problem} (the first: {named})" if ids else ""
