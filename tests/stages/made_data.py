"""Prepared data from columns in memory, where no official file is what a test is about."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from mmkd_cli.core import artifacts
from mmkd_cli.core.artifacts import Artifact, FileRecord, Plan


def make_data(root: Path, name: str, splits: Mapping[str, Mapping[str, Any]], features: Any = None,
              rejected: Any = ()) -> Artifact:  # fmt: skip
    """Data NAME of split -> table -> columns (or a datasets.Dataset). features: of all columns. rejected: as a manifest
    has it."""
    folder = root / "data" / name
    identity = {"stage": "prepare-data", "name": name}
    _, artifact = artifacts.begin(folder, Plan("data", "prepare-data", name, identity, {}))
    rows: dict[str, dict[str, int]] = {}
    for split, tables in splits.items():
        for table, columns in tables.items():
            ready = isinstance(columns, datasets.Dataset)
            made = columns if ready else datasets.Dataset.from_dict(dict(columns), features=features)
            made.save_to_disk(str(folder / table / split))
            rows.setdefault(split, {})[table] = len(made)
    files = {p.relative_to(folder).as_posix(): FileRecord.of(p) for p in sorted(folder.rglob("*.arrow"))}
    hashed = {file: record.xxh3_128 for file, record in files.items()}
    content = {"tables": rows, "rows": rows, "source": "text"}
    return artifacts.finish(artifact, content=content, files=files, hashed=hashed, rejected=rejected,
                            started=time.time())  # fmt: skip


def text_rows(count: int, **columns: Any) -> dict[str, Any]:
    """Columns of a table `texts` without pictures."""
    return {"text_id": [f"t{i}" for i in range(count)], "image_row": [-1] * count, **columns}
