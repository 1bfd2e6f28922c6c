"""What prepared pictures will cost, from some that are prepared and thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from mmkd_cli.data.filling import Job
from mmkd_cli.data.pictures import PictureError
from mmkd_cli.data.ranges import picture_bytes
from mmkd_cli.data.storing import PictureStore

PROBE_ROWS = 24
"""Pictures of a probe, spread evenly over the ranges."""

_OTHER_BYTES = 100
"""Of a row beside its picture: ids, or a caption."""


class Estimate(NamedTuple):
    """Of a whole set of ranges."""

    bytes: int
    seconds: float


def estimate(jobs: Sequence[Job], store: PictureStore, workers: int = 1) -> Estimate:
    """Bytes and seconds of these ranges on `workers` processes; pictures that can't be used count nothing."""
    parts = [job for job in jobs if job[1].table == "images" and job[1].rows]
    chosen = parts[:: -(-len(parts) // PROBE_ROWS)] if parts else []
    stored, used, began = 0, 0, time.perf_counter()
    for table, part in chosen:
        for row in table.read(part.first, min(part.first + -(-PROBE_ROWS // len(chosen)), part.last)):
            try:
                stored += len(store(picture_bytes(row["image"])).data)
                used += 1
            except PictureError:
                continue
    seconds = (time.perf_counter() - began) / max(used, 1)
    images = sum(part.rows for _, part in parts)
    rows = sum(part.rows for _, part in jobs)
    return Estimate(images * stored // max(used, 1) + rows * _OTHER_BYTES, images * seconds / max(workers, 1))
