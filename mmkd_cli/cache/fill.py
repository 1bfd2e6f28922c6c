"""Filling a cache: claim shards, run the teacher over their rows, commit them. Any number of processes at once.

A batch starts at its shard's first row or a whole number of batches after it, and never crosses the shard's end, so a
shard's bytes do not depend on who computes it. Nobody sends messages: a shard is its lock and its commit record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from mmkd_cli.cache.index import Index, Shard
from mmkd_cli.cache.inputs import Rows, TeacherInputs
from mmkd_cli.cache.planning import batch_rows
from mmkd_cli.cache.writer import ShardWriter, committed
from mmkd_cli.core.console import Meter
from mmkd_cli.core.contracts import Teacher
from mmkd_cli.core.locks import Lock


@dataclass(frozen=True)
class Filling:
    """What all workers of a cache share. batch_size: rows (pictures, views counted) of one forward."""

    folder: Path
    index: Index
    request: str
    teacher: Teacher
    inputs: TeacherInputs
    batch_size: int

    def lock(self, shard: Shard) -> Lock:
        path = self.folder / shard.split / f".{shard.table}-{shard.number:05d}.lock"
        return Lock(path, f"cache {self.folder.name!r}, {shard.file}")


def fill(filling: Filling, shards: Sequence[Shard], meter: Meter, recorded: Mapping[str, str] | None = None) -> None:
    """Compute what of `shards` is not committed, in this order, passing over those that another process holds.

    At the end it waits for those, so that all of them are committed when it returns. recorded: file -> XXH3-128 of
    damaged shards: these are computed though their record is there, and must get the bytes that the hash names.
    """
    recorded = recorded or {}
    held: list[Shard] = []
    for _, group in groupby(shards, key=lambda shard: (shard.split, shard.table)):
        held += _fill_table(filling, list(group), meter, recorded, wait=False)
    for shard in held:
        _fill_table(filling, [shard], meter, recorded, wait=True)


def _fill_table(
    filling: Filling, shards: Sequence[Shard], meter: Meter, recorded: Mapping[str, str], wait: bool
) -> list[Shard]:
    """Shards of one table of one split; returns those that were held by another process."""
    claimed: deque[tuple[Shard, Lock]] = deque()
    held: list[Shard] = []

    def claims() -> Iterator[Rows]:
        """Rows of the next batches. A shard is claimed when its first rows are asked for, some batches ahead."""
        for shard in shards:
            lock = filling.lock(shard)
            if not lock.acquire(block=wait):
                held.append(shard)
            elif shard.file not in recorded and committed(filling.folder, shard):
                lock.release()
                meter.advance(shard.rows)
            else:
                claimed.append((shard, lock))
                yield from forwards(filling, shard)

    split, table = shards[0].split, shards[0].table
    signals = list(filling.index.of_table(table))
    writer: ShardWriter | None = None
    try:
        for batch in filling.inputs.batches(split, table, claims()):
            shard, lock = claimed[0]
            writer = writer or ShardWriter(filling.index, shard)
            rows = batch["row"].numpy()
            writer.put(rows, filling.teacher(batch, signals), batch.get("view"))
            meter.advance(len(np.unique(rows)), shard.file)
            if rows[-1] == shard.last - 1:
                writer.commit(filling.folder, filling.request, recorded.get(shard.file))
                writer = None
                claimed.popleft()
                lock.release()
    finally:
        for _, lock in claimed:
            lock.release()
    return held


def forwards(filling: Filling, shard: Shard) -> Iterator[Rows]:
    """Table rows (and their views) of each forward of a shard."""
    per_batch = batch_rows(filling.index, shard.table, filling.batch_size)
    for first in range(shard.first, shard.last, per_batch):
        rows = np.arange(first, min(first + per_batch, shard.last), dtype=np.int64)
        yield filling.inputs.every_view(shard.table, rows)


def in_turn(shards: Sequence[Shard], share: int, shares: int) -> list[Shard]:
    """All shards, this worker's own (every `shares`-th) first, so that workers meet late."""
    mine = [shard for place, shard in enumerate(shards) if place % shares == share]
    return mine + [shard for place, shard in enumerate(shards) if place % shares != share]
