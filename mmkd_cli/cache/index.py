"""What a cache holds and how its rows are cut into shards. Lives in the plan while it grows, in index.json after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from mmkd_cli.cache.shard_file import bytes_of
from mmkd_cli.core.contracts import SignalSpec


class Shard(NamedTuple):
    """Rows [first, last) of one table of one split."""

    split: str
    table: str
    number: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """Relative to the cache's folder."""
        return f"{self.split}/{self.table}-{self.number:05d}.safetensors"

    @property
    def record(self) -> str:
        """Its commit record, relative to the cache's folder."""
        return f"{self.split}/{self.table}-{self.number:05d}.json"

    @property
    def rows(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class Index:
    """signals by name; rows[split][table]; rows_per_shard[table]; n_views: 0 without the axis, else views a picture.

    view_spec and seed: how the views were drawn (see data.views).
    """

    signals: Mapping[str, SignalSpec]
    rows: Mapping[str, Mapping[str, int]]
    rows_per_shard: Mapping[str, int]
    n_views: int = 0
    seed: int = 0
    view_spec: Mapping[str, Any] | None = None

    def views_of(self, table: str) -> int:
        """Length of the views axis of a table's signals; 0: there is none."""
        return self.n_views if table == "images" else 0

    def of_table(self, table: str) -> dict[str, SignalSpec]:
        return {name: spec for name, spec in self.signals.items() if spec.table == table}

    def shards(self) -> Iterator[Shard]:
        """All shards, split by split and table by table."""
        for split, tables in self.rows.items():
            for table, rows in tables.items():
                per_shard = self.rows_per_shard[table]
                for number, first in enumerate(range(0, rows, per_shard)):
                    yield Shard(split, table, number, first, min(first + per_shard, rows))

    def row_bytes(self, table: str, ragged_lengths: Mapping[str, float] | None = None) -> float:
        """Stored bytes of one row; ragged signals at the lengths given, else at their bound."""
        total = 0.0
        for name, spec in self.of_table(table).items():
            shape = spec.shape[1:] if spec.ragged else spec.shape
            value = float(bytes_of(spec.dtype) * prod(shape))
            if spec.ragged:
                value = value * (ragged_lengths or {}).get(name, spec.shape[0]) + 8
            total += value * max(1, self.views_of(table))
        return total

    def to_json(self) -> dict[str, Any]:
        signals = {name: {**asdict(spec), "shape": list(spec.shape)} for name, spec in self.signals.items()}
        return {"format": 1, **asdict(self), "signals": signals}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Index:
        signals = {name: SignalSpec(**{**spec, "shape": tuple(spec["shape"])})
                   for name, spec in value["signals"].items()}  # fmt: skip
        return cls(**{**{k: v for k, v in value.items() if k != "format"}, "signals": signals})


def fit_rows_per_shard(row_bytes: float, shard_bytes: int, rows_per_batch: int) -> int:
    """Rows whose shard has about `shard_bytes`, in whole teacher batches."""
    batches = int(shard_bytes / max(row_bytes, 1.0)) // rows_per_batch
    return max(1, batches) * rows_per_batch


def lock_path(folder: Path, shard: Shard) -> Path:
    return folder / shard.split / f".{shard.table}-{shard.number:05d}.lock"
