"""A source read whole, as tests compare it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmkd_cli.core import registry
from mmkd_cli.core.config import validate
from mmkd_cli.core.contracts import Source


def source(name: str, **keys: Any) -> Source:
    """The source of this name with these keys."""
    kind = registry.load("sources", name)
    values = {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}
    made: Source = kind(validate(kind.Config, {"name": name, **values}))
    return made


def rows(found: Source, table: str, split: str = "train", step: int = 0) -> list[dict[str, Any]]:
    """All rows of a table, read in ranges of `step` (0: in one)."""
    for one in found.tables():
        if (one.name, one.split) == (table, split):
            cuts = range(0, one.rows, step or max(one.rows, 1))
            return [row for first in cuts for row in one.read(first, min(first + (step or one.rows), one.rows))]
    raise AssertionError(f"no table {table!r} in {split!r}")
