"""Instructions of R2R and RxR with the paths that people meant, and trajectories that an agent walked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmkd_cli.benches.result_files import in_order
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows

_PACKED = ".gz"


@dataclass(frozen=True)
class Instruction:
    """path: viewpoints from the start to the goal. language: RxR's, else empty."""

    id: str
    scan: str
    path_id: str
    path: tuple[str, ...]
    text: str
    language: str = ""


class Walk(NamedTuple):
    """viewpoints, the start among them; `where` it stands in the file."""

    viewpoints: tuple[str, ...]
    where: str


def read_r2r(path: Path) -> list[Instruction]:
    """R2R's JSON list: several instructions a path; an instruction's id is PATH_NUMBER."""
    found = []
    for where, row in json_rows(path):
        own, texts = fields.id_of(row, "path_id", where), fields.field(row, "instructions", list, where)
        for number, text in enumerate(texts):
            text = fields.typed(text, str, f"{where}, field 'instructions'")
            found.append(Instruction(f"{own}_{number}", _scan(row, where), own, _path(row, where), text))
    return _with_paths(found, path)


def read_rxr(path: Path) -> list[Instruction]:
    """RxR's guide annotations: JSON lines (.jsonl, .jsonl.gz), or a JSON list of the same objects."""
    found = []
    for where, row in _guide_rows(path):
        language = fields.field(row, "language", str, where)
        found.append(Instruction(
            fields.id_of(row, "instruction_id", where), _scan(row, where), fields.id_of(row, "path_id", where),
            _path(row, where), fields.field(row, "instruction", str, where), language,
        ))  # fmt: skip
    return _with_paths(found, path)


def read_walks(path: Path, instructions: Sequence[Instruction], id_field: str) -> list[Walk]:
    """Of each instruction: `trajectory` (viewpoints, or [viewpoint, heading, elevation]) or `path` (viewpoints).

    UserError where ids are missing, unknown or doubled.
    """
    rows = [(fields.id_of(row, id_field, where), Walk(_walked(row, where), where)) for where, row in json_rows(path)]
    return in_order(rows, [one.id for one in instructions], path, id_field)


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


def _walked(row: dict[str, Any], where: str) -> tuple[str, ...]:
    name = "trajectory" if "trajectory" in row else "path"
    steps = fields.field(row, name, list, where)
    found = []
    for step in steps:
        one = step[0] if isinstance(step, list) and step else step
        found.append(fields.typed(one, str, f"{where}, field {name!r}"))
    if not found:
        raise UserError(f"{where}, field {name!r}: a walk begins at its start: give at least that viewpoint")
    return tuple(found)


def _with_paths(found: list[Instruction], path: Path) -> list[Instruction]:
    if not found:
        raise UserError(f"file {path}: there are no instructions")
    if without := [one.id for one in found if len(one.path) < 2]:
        raise UserError(
            f"file {path}: {len(without):,} instructions have no path to a goal (the first: {without[0]!r}), so they "
            "can't be scored here: a test split's goals are not published, hand the trajectories to the organisers"
        )
    return found
