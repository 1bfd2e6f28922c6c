"""How long a cache will take and how large it will be, from a few batches of the real thing."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from mmkd_cli.cache.index import Index
from mmkd_cli.cache.inputs import TeacherInputs
from mmkd_cli.cache.planning import batch_rows
from mmkd_cli.core.contracts import Teacher

_BATCHES = 4  # the first one warms up and is not timed


def probe(index: Index, teacher: Teacher, inputs: TeacherInputs, batch_size: int) -> dict[str, Any]:
    """Seconds and bytes of the whole cache on this machine, with one process. The teacher is loaded."""
    seconds, stored = 0.0, 0.0
    rates: dict[str, float] = {}
    for table in index.rows_per_shard:
        split = _largest(index, table)
        total = sum(tables.get(table, 0) for tables in index.rows.values())
        a_row, lengths = _measure(index, teacher, inputs, split, table, batch_size)
        seconds += a_row * total
        stored += index.row_bytes(table, lengths) * total
        rates[table] = round(1 / max(a_row, 1e-9), 2)
    return {"seconds": round(seconds, 1), "bytes": int(stored), "rows_per_second": rates}


def ragged_lengths(index: Index, teacher: Teacher, inputs: TeacherInputs, batch_size: int) -> dict[str, float]:
    """Mean length of each ragged signal over one forward of its table. The teacher is loaded."""
    found: dict[str, float] = {}
    for table in index.rows_per_shard:
        if any(spec.ragged for spec in index.of_table(table).values()):
            split = _largest(index, table)
            found |= _measure(index, teacher, inputs, split, table, batch_size, batches=1)[1]
    return found


def _largest(index: Index, table: str) -> str:
    """The split with the most rows of a table."""
    return max((s for s in index.rows if table in index.rows[s]), key=lambda s: index.rows[s][table])


def _measure(
    index: Index, teacher: Teacher, inputs: TeacherInputs, split: str, table: str, batch_size: int,
    batches: int = _BATCHES,
) -> tuple[float, dict[str, float]]:  # fmt: skip
    """Seconds a row, and the mean length of each ragged signal."""
    began_at = time.perf_counter()
    specs = index.of_table(table)
    per_batch = batch_rows(index, table, batch_size)
    last = min(index.rows[split][table], batches * per_batch)
    asked = (np.arange(first, min(first + per_batch, last)) for first in range(0, last, per_batch))
    lengths: dict[str, list[int]] = {name: [] for name, spec in specs.items() if spec.ragged}
    marks: list[tuple[int, float]] = []
    for batch in inputs.batches(split, table, (inputs.every_view(table, rows) for rows in asked)):
        said = teacher(batch, list(specs))
        for name, found in lengths.items():
            found.extend(len(item) for item in said[name])
        marks.append((len(np.unique(batch["row"])), time.perf_counter()))
    timed = marks[1:] if len(marks) > 1 else marks
    began = marks[0][1] if len(marks) > 1 else began_at
    a_row = (marks[-1][1] - began) / sum(rows for rows, _ in timed)
    return a_row, {name: float(np.mean(found)) for name, found in lengths.items()}
