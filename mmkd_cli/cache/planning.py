"""What a cache will hold, decided from teacher, data and keys before any work: signals, rows, shard bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmkd_cli.cache.index import Index
from mmkd_cli.core.contracts import SignalSpec, Teacher
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.prepared import PreparedData

SHARD_BYTES = 128 * 2**20
_UNBOUNDED_LENGTH = 512  # of a ragged signal that names no bound: only where its shards are cut depends on it


def choose_signals(teacher: Teacher, data: PreparedData, asked: Sequence[str] | None) -> dict[str, SignalSpec]:
    """The signals to store: those asked for, else the teacher's defaults of tables that the data has."""
    known = teacher.signals()
    tables = {table for split in data.splits for table in data.tables(split)}
    if asked is None:
        chosen = {name: spec for name, spec in known.items() if spec.default and spec.table in tables}
        if not chosen:
            wanted = ", ".join(sorted({spec.table for spec in known.values()}))
            raise UserError(f"the teacher speaks of {wanted}, the data has {', '.join(sorted(tables))}: use other data")
        return chosen
    for name in asked:
        if name not in known:
            raise UserError(f"signal {name!r} is not one of the teacher's{nearest(name, known)}")
        if known[name].table not in tables:
            raise UserError(
                f"signal {name!r} is of the table {known[name].table!r}, the data has {', '.join(sorted(tables))}: "
                f"leave it out of --signals, or use other data"
            )
    every = {*asked, *(other for name in asked for other in known[name].along)}
    return {name: spec for name, spec in known.items() if name in every}


def build_index(
    signals: Mapping[str, SignalSpec],
    data: PreparedData,
    *,
    dtype: str,
    rows_per_shard: int,
    batch_size: int,
    n_views: int,
    seed: int,
    view_spec: Mapping[str, Any],
) -> Index:
    """Rows of the data's tables cut into shards. rows_per_shard 0: about SHARD_BYTES, in whole batches."""
    stored = {name: replace(spec, dtype=stored_dtype(spec.dtype, dtype)) for name, spec in sorted(signals.items())}
    tables = {spec.table for spec in stored.values()}
    rows = {
        split: {table: len(found) for table, found in data.tables(split).items() if table in tables}
        for split in data.splits
    }
    for name, spec in stored.items():
        if n_views and spec.table == "images" and spec.ragged:
            raise UserError(f"signal {name!r} varies in length, which --views can't store: leave one of the two out")
    if n_views and "images" not in tables:
        raise UserError(f"--views {n_views} asks for views of pictures, and no signal is of pictures: leave it out")
    rejected = [dict(entry) for entry in (data.artifact.manifest or {}).get("rejected", ()) if entry["table"] in tables]
    index = Index(
        stored,
        {split: found for split, found in rows.items() if found},
        {},
        n_views,
        seed if n_views else 0,
        view_spec if n_views else None,
        rejected,
    )
    bounds = {name: float(_UNBOUNDED_LENGTH) for name, spec in stored.items() if spec.ragged and not spec.shape[0]}
    cut = {
        table: rows_per_shard or _fit(index.row_bytes(table, bounds), batch_rows(index, table, batch_size))
        for table in sorted(tables)
    }
    return replace(index, rows_per_shard=cut)


def stored_dtype(said: str, asked: str) -> str:
    """float32 asked widens bfloat16; integers, and what a teacher wants in float32, keep their kind."""
    return "float32" if asked == "float32" and said in ("bfloat16", "float16") else said


def batch_rows(index: Index, table: str, batch_size: int) -> int:
    """Table rows of one forward: views count as rows of it."""
    return max(1, batch_size // max(1, index.views_of(table)))


def _fit(row_bytes: float, rows_per_batch: int) -> int:
    return max(1, int(SHARD_BYTES / max(row_bytes, 1.0)) // rows_per_batch) * rows_per_batch
