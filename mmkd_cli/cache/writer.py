"""A shard in memory, filled batch by batch, then committed: the file first, its commit record after it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.cache.index import Index, Shard
from mmkd_cli.cache.shard_file import DTYPES, write_shard
from mmkd_cli.core import paths
from mmkd_cli.core.artifacts import FileRecord
from mmkd_cli.core.contracts import SignalSpec
from mmkd_cli.core.errors import UserError

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32}
"""Kinds with the same bytes."""


class ShardWriter:
    """Signals of one shard's rows. Dense: [rows, (views,) ...]; ragged: `NAME.values`, `NAME.offsets` [items + 1].

    Rejected rows are stored as zeros (ragged: empty), whatever the teacher said of the empty picture in their place.
    """

    def __init__(self, index: Index, shard: Shard) -> None:
        self.index, self.shard = index, shard
        self.specs = index.of_table(shard.table)
        views = index.views_of(shard.table)
        axis = (views,) if views else ()
        self._rejected = index.rejected_rows(shard.split, shard.table)
        self._dense = {
            name: torch.zeros((shard.rows, *axis, *spec.shape), dtype=DTYPES[spec.dtype][1])
            for name, spec in self.specs.items()
            if not spec.ragged
        }
        self._ragged: dict[str, list[Tensor]] = {
            name: [torch.empty((0, *spec.shape[1:]), dtype=DTYPES[spec.dtype][1])] * shard.rows
            for name, spec in self.specs.items()
            if spec.ragged
        }

    def put(self, rows: np.ndarray, outputs: Mapping[str, Tensor | Sequence[Tensor]], views: Tensor | None = None
            ) -> None:  # fmt: skip
        """What the teacher said of table rows: [B, ...] each, or a list of B tensors where the signal is ragged.

        views: int64 [B], the view of each where the shard has the axis.
        """
        places = torch.from_numpy(np.asarray(rows, dtype=np.int64) - self.shard.first)
        keep = ~np.isin(rows, self._rejected)
        kept_rows = torch.from_numpy(keep)
        for name, spec in self.specs.items():
            if name not in outputs:
                raise UserError(f"the teacher says no {name!r}, which its signals() promise: mend the teacher")
            if spec.ragged:
                for place, kept, value in zip(places.tolist(), keep, outputs[name], strict=True):
                    if kept:
                        self._ragged[name][place] = self._checked(spec, value.unsqueeze(0), rows)[0]
            else:
                values = outputs[name]
                assert isinstance(values, Tensor)
                values = self._checked(spec, values, rows)[kept_rows]
                where = (places,) if views is None else (places, views)
                signed = _SIGNED.get(values.dtype, values.dtype)  # torch writes no rows of the unsigned kinds
                self._dense[name].view(signed)[tuple(index[kept_rows] for index in where)] = values.view(signed)

    def _checked(self, spec: SignalSpec, values: Tensor, rows: np.ndarray) -> Tensor:
        shape = tuple(values.shape[2:] if spec.ragged else values.shape[1:])
        if shape != (spec.shape[1:] if spec.ragged else spec.shape):
            raise UserError(f"signal {spec.name!r} has shape {shape} a row, its teacher promised {spec.shape}")
        stored = values.to("cpu", DTYPES[spec.dtype][1])
        if stored.is_floating_point() and not torch.isfinite(stored).all():
            bad = int(rows[0]) if spec.ragged else int(rows[(~torch.isfinite(stored)).flatten(1).any(1).numpy()][0])
            raise UserError(
                f"signal {spec.name!r} is not finite at {self.shard.split}/{self.shard.table} row {bad} (from 0; "
                f"or in its batch): compute it with --set cache.precision=float32, or look at that row"
            )
        return stored

    def tensors(self) -> dict[str, Tensor]:
        """What the shard file holds, by name."""
        found = dict(self._dense)
        for name, items in self._ragged.items():
            lengths = torch.tensor([0, *(len(item) for item in items)], dtype=torch.int64)
            found[f"{name}.values"] = torch.cat(items) if items else torch.empty(0)
            found[f"{name}.offsets"] = lengths.cumsum(0)
        return found

    def commit(self, folder: Path, request: str, expected: str | None = None) -> FileRecord:
        """Write the file, then its record: rows, bytes, hash, and who computed it. See `write_shard` for `expected`."""
        shard = self.shard
        metadata = {
            "format": 1,
            "request": request,
            "split": shard.split,
            "table": shard.table,
            "first": shard.first,
            "rows": shard.rows,
            "signals": sorted(self.specs),
            "views": self.index.views_of(shard.table),
        }
        record = write_shard(folder / shard.file, self.tensors(), metadata, expected)
        paths.write_json(folder / shard.record, {"first": shard.first, "rows": shard.rows, **asdict(record),
                                                 "computed_by": computed_by()})  # fmt: skip
        return record


def computed_by() -> dict[str, Any]:
    """Host, process and torch, for a commit record."""
    rank = os.environ.get("RANK")
    return {"host": os.uname().nodename, "pid": os.getpid(), "torch": str(torch.__version__),
            "threads": torch.get_num_threads(), **({"rank": int(rank)} if rank else {})}  # fmt: skip


def committed(folder: Path, shard: Shard) -> FileRecord | None:
    """The record of a shard that is there in full size; None where it has to be computed. Reads no tensors."""
    record, file = folder / shard.record, folder / shard.file
    if not record.is_file() or not file.is_file():
        return None
    known = paths.read_json(record)
    found = FileRecord(int(known["bytes"]), str(known["xxh3_128"]))
    return found if file.stat().st_size == found.bytes and known["rows"] == shard.rows else None
