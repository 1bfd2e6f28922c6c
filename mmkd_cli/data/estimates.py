"""What prepared tables will cost, from some of their rows that are prepared and thrown away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.data.filling import Job
from mmkd_cli.data.pictures import PictureError
from mmkd_cli.data.ranges import ROWS_PER_RECORD_BATCH, picture_bytes
from mmkd_cli.data.storing import PictureStore

PROBE_ROWS = 24
"""Rows of a table's probe, spread evenly over it."""

_RECORD_BYTES = 220
"""Of a range's commit record, and of its line in state.json."""
_DESCRIPTION_BYTES = 650
"""Of the small files by which `datasets` knows a split of a table."""


class Estimate(NamedTuple):
    """Of a whole set of ranges."""

    bytes: int
    seconds: float


def estimate(jobs: Sequence[Job], store: PictureStore, workers: int = 1) -> Estimate:
    """Bytes and seconds of these ranges on `workers` processes; pictures that can't be used count as the others do."""
    size, seconds = 0.0, 0.0
    for name in dict.fromkeys(part.table for _, part in jobs):
        mine = [job for job in jobs if job[1].table == name]
        schema = mine[0][0].features.arrow_schema
        rows, a_row_s = _probe(mine, store)
        a_file, a_batch = _stream_bytes(schema, None), _stream_bytes(schema, []) - _stream_bytes(schema, None)
        a_row = (_stream_bytes(schema, rows) - a_file - a_batch) / max(len(rows), 1)
        for _, part in mine:
            size += a_file + -(-part.rows // ROWS_PER_RECORD_BATCH) * a_batch + part.rows * a_row + _RECORD_BYTES
            seconds += part.rows * a_row_s / max(workers, 1)
        size += _DESCRIPTION_BYTES * len({part.split for _, part in mine})
    return Estimate(int(size), seconds)


def _probe(jobs: Sequence[Job], store: PictureStore) -> tuple[list[dict[str, Any]], float]:
    """Some rows of one table as they would be written, and seconds a row."""
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    for table, number in _spread(jobs):
        for row in table.read(number, number + 1):
            try:
                stored = store(picture_bytes(row["image"])) if "image" in row else None
            except PictureError:
                continue
            rows.append({**row, "image": {"bytes": stored.data, "path": None}} if stored else row)
    return rows, (time.perf_counter() - began) / max(len(rows), 1)


def _spread(jobs: Sequence[Job]) -> Iterator[tuple[SourceTable, int]]:
    """PROBE_ROWS rows at even distances over all ranges, or all rows if there are fewer."""
    total = sum(part.rows for _, part in jobs)
    places = sorted({total * k // PROBE_ROWS for k in range(PROBE_ROWS)}) if total else []
    passed = 0
    for table, part in jobs:
        yield from ((table, part.first + place - passed) for place in places if 0 <= place - passed < part.rows)
        passed += part.rows


def _stream_bytes(schema: Any, rows: Sequence[dict[str, Any]] | None) -> int:
    """Bytes of an Arrow stream of one batch of these rows; None: of no batch."""
    import pyarrow as pa

    sink = pa.MockOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        if rows is not None:
            stream.write_batch(pa.RecordBatch.from_pylist(list(rows), schema=schema))
    return int(sink.size())
