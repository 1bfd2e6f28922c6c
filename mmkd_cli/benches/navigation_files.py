"""Trajectories that an agent walked, and the instructions that they are scored against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmkd_cli.benches.result_files import in_order
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows
from mmkd_cli.data.sources.navigation_files import Instruction


class Walk(NamedTuple):
    """viewpoints, the start among them; `where` it stands in the file."""

    viewpoints: tuple[str, ...]
    where: str


def read_walks(path: Path, instructions: Sequence[Instruction], id_field: str) -> list[Walk]:
    """Of each instruction: `trajectory` (viewpoints, or [viewpoint, heading, elevation]) or `path` (viewpoints).

    UserError where ids are missing, unknown or doubled.
    """
    rows = [(fields.id_of(row, id_field, where), Walk(_walked(row, where), where)) for where, row in json_rows(path)]
    return in_order(rows, [one.id for one in instructions], path, id_field)


def with_goals(found: list[Instruction], path: Path) -> list[Instruction]:
    """These instructions, each with a path to a goal; UserError otherwise."""
    if without := [one.id for one in found if len(one.path) < 2]:
        raise UserError(
            f"file {path}: {len(without):,} instructions have no path to a goal (the first: {without[0]!r}), so they "
            "can't be scored here: a test split's goals are not published, hand the trajectories to the organisers"
        )
    return found


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
