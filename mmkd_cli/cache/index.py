"""What a cache holds and how its rows are cut into shards. Lives in the plan while it grows, in index.json after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

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
        """Relative to the folder of the cache."""
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

    view_spec and seed: how the views were drawn (see data.views). rejected: {"split", "table", "row", "reason", ...} of
    each row that holds no signal.
    """

    signals: Mapping[str, SignalSpec]
    rows: Mapping[str, Mapping[str, int]]
    rows_per_shard: Mapping[str, int]
    n_views: int = 0
    seed: int = 0
    view_spec: Mapping[str, Any] | None = None
    rejected: Sequence[Mapping[str, Any]] = ()

    def reasons(self, split: str, table: str) -> dict[int, str]:
        """Rejected row -> why."""
        return {
            int(entry["row"]): str(entry["reason"])
            for entry in self.rejected
            if entry["split"] == split and entry["table"] == table
        }

    def rejected_rows(self, split: str, table: str) -> np.ndarray:
        """Rows that hold no signal, int64, in order."""
        return np.array(sorted(self.reasons(split, table)), dtype=np.int64)

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
                value = value * (ragged_lengths or {}).get(name, float(spec.shape[0])) + 8
            total += value * max(1, self.views_of(table))
        return total

    def item_bytes(self, table: str) -> int:
        """Stored bytes of one item of a table's ragged signals together (a token of token distributions)."""
        ragged = [spec for spec in self.of_table(table).values() if spec.ragged]
        return sum(bytes_of(spec.dtype) * prod(spec.shape[1:]) for spec in ragged)

    def to_json(self) -> dict[str, Any]:
        signals = {
            name: {"name": name, "table": spec.table, "shape": list(spec.shape), "ragged": spec.ragged,
                   "dtype": spec.dtype}
            for name, spec in self.signals.items()
        }  # fmt: skip
        return {"format": 1, **asdict(self), "signals": signals}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Index:
        signals = {name: SignalSpec(**{**spec, "shape": tuple(spec["shape"])})
                   for name, spec in value["signals"].items()}  # fmt: skip
        return cls(**{**{k: v for k, v in value.items() if k != "format"}, "signals": signals})
