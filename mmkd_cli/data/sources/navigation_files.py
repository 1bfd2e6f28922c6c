"""Instructions of R2R and RxR with the paths that people meant."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows

_PACKED = ".gz"


@dataclass(frozen=True)
class Instruction:
    """path: viewpoints from the start to the goal (of a test split the start alone). heading: at the start, radians
    from +y clockwise, None where the file says none. language: RxR's, else empty."""

    id: str
    scan: str
    path_id: str
    path: tuple[str, ...]
    text: str
    language: str = ""
    heading: float | None = None


def read_r2r(path: Path) -> list[Instruction]:
    """R2R's JSON list: several instructions a path; an instruction's id is PATH_NUMBER."""
    found = []
    for where, row in json_rows(path):
        own, texts = fields.id_of(row, "path_id", where), fields.field(row, "instructions", list, where)
        for number, text in enumerate(texts):
            text = fields.typed(text, str, f"{where}, field 'instructions'")
            found.append(Instruction(f"{own}_{number}", _scan(row, where), own, _path(row, where), text,
                                     heading=_heading(row, where)))  # fmt: skip
    return _some(found, path)


def read_rxr(path: Path) -> list[Instruction]:
    """RxR's guide annotations: JSON lines (.jsonl, .jsonl.gz), or a JSON list of the same objects."""
    found = []
    for where, row in _guide_rows(path):
        language = fields.field(row, "language", str, where)
        found.append(Instruction(
            fields.id_of(row, "instruction_id", where), _scan(row, where), fields.id_of(row, "path_id", where),
            _path(row, where), fields.field(row, "instruction", str, where), language, _heading(row, where),
        ))  # fmt: skip
    return _some(found, path)


def _guide_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix != _PACKED:
        yield from json_rows(path)
        return
    size = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                where, size = f"file {path}, line {number}", size + len(line)
                if size > fields.MOST_JSON_BYTES:
                    raise UserError(f"file {path} unpacks to more than {fields.MOST_JSON_BYTES:,} characters")
                if line.strip():
                    yield where, fields.typed(json.loads(line), dict, where)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise UserError(f"file {path} is not packed JSON lines ({error}): mend it") from None


def _scan(row: dict[str, Any], where: str) -> str:
    return fields.field(row, "scan", str, where)


def _path(row: dict[str, Any], where: str) -> tuple[str, ...]:
    path = fields.field(row, "path", list, where)
    return tuple(fields.typed(one, str, f"{where}, field 'path'") for one in path)


def _heading(row: dict[str, Any], where: str) -> float | None:
    value = row.get("heading")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
        raise UserError(f"{where}, field 'heading': a number is needed, radians")
    return float(value)


def _some(found: list[Instruction], path: Path) -> list[Instruction]:
    if not found:
        raise UserError(f"file {path}: there are no instructions")
    return found
