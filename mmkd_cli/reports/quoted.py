"""Rows that papers report, each with its source; wherever one is shown it carries the word *quoted*."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmkd_cli.core import paths

_FILE = Path(__file__).parent / "quoted.json"


def quoted_rows(bench: str) -> list[dict[str, Any]]:
    """Rows of a bench: {"model", "split", "metrics": {name: number}, "source", "note", "quoted": true}."""
    tables = paths.read_json(_FILE)
    return [
        {
            "model": row["model"],
            "split": table["split"],
            "metrics": {n: v for n, v in zip(table["columns"], row[bench], strict=True) if v is not None},
            "source": row.get("source", table["source"]),
            "note": row.get("note", ""),
            "quoted": True,
        }
        for table in tables
        for row in table["rows"]
        if bench in row
    ]
