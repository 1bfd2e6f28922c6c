"""Reading a cache: `open_cache("cnn")["image_cls"][rows]` is a tensor in the stored dtype.

Shards are mapped when first touched and held; a gather is one indexed copy per shard touched. Memory does not grow
with the rows of the cache: an unbroken range is read from the file, a shuffled gather leaves pages to the system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.cache.index import Index, Shard
from mmkd_cli.cache.inputs import DrawnViews
from mmkd_cli.cache.shard_file import DTYPES, MappedShard
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.contracts import Ragged, SignalSpec, View
from mmkd_cli.core.errors import Refused, UserError, nearest

Rows = int | slice | Sequence[int] | np.ndarray | Tensor


class SignalArray:
    """One signal over the rows of a split's table. `array[rows]`: rows an int, slice, list, ndarray or tensor.

    Dense: a tensor [len(rows), (views,) ...]; an int gives one row's value. Ragged: `Ragged`; an int gives a tensor.
    Raises IndexError beyond the table, Refused for a rejected row.
    """

    def __init__(self, spec: SignalSpec, index: Index, split: str, artifact: Artifact,
                 opened: dict[str, MappedShard]) -> None:  # fmt: skip
        self.spec, self.split = spec, split
        self.rows = index.rows[split][spec.table]
        self.n_views = index.views_of(spec.table)
        self._per_shard = index.rows_per_shard[spec.table]
        self._folder, self._request, self._opened = artifact.path, artifact.plan["request"], opened
        self._reasons = index.reasons(split, spec.table)
        self._rejected = index.rejected_rows(split, spec.table)

    def __len__(self) -> int:
        return self.rows

    @property
    def shape(self) -> tuple[int, ...]:
        axis = (self.n_views,) if self.n_views else ()
        return (self.rows, *axis, *self.spec.shape)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.spec.dtype][1]

    def __getitem__(self, rows: Rows) -> Tensor | Ragged:
        asked = self._indices(rows)
        found = self._gather_ragged(asked) if self.spec.ragged else self._gather(asked)
        if isinstance(rows, (int, np.integer)):
            return found.values if isinstance(found, Ragged) else found[0]
        return found

    def gather(self, rows: np.ndarray, views: np.ndarray | None = None) -> Tensor | Ragged:
        """[len(rows), ...], ragged signals as `Ragged`; `views` picks one view a row."""
        asked = self._indices(rows)
        if self.spec.ragged:
            return self._gather_ragged(asked)
        if views is None or not self.n_views:
            return self._gather(asked)
        return self._gather(asked, np.asarray(views, dtype=np.int64) % self.n_views)

    def _indices(self, rows: Rows) -> np.ndarray:
        if isinstance(rows, slice):
            asked = np.arange(*rows.indices(self.rows), dtype=np.int64)
        else:
            asked = np.atleast_1d(np.asarray(rows))
            if asked.dtype == np.bool_:
                if asked.shape != (self.rows,):
                    raise IndexError(f"a mask over {self.spec.name!r} needs {self.rows} values, got {asked.shape}")
                asked = np.flatnonzero(asked)
            elif asked.size and not np.issubdtype(asked.dtype, np.integer):
                raise TypeError(f"rows of {self.spec.name!r} must be whole numbers, got {asked.dtype}")
            asked = asked.astype(np.int64, copy=False).reshape(-1)
        if asked.size:
            low, high = int(asked.min()), int(asked.max())
            if low < -self.rows or high >= self.rows:
                bad = low if low < -self.rows else high
                raise IndexError(f"row {bad} is not in {self.split}/{self.spec.table}, which has {self.rows} rows")
            if low < 0:
                asked = np.where(asked < 0, asked + self.rows, asked)
            if len(self._rejected) and np.isin(asked, self._rejected).any():
                bad = int(asked[np.isin(asked, self._rejected)][0])
                raise Refused(
                    f"{self.split}/{self.spec.table} row {bad} (from 0) was rejected ({self._reasons[bad]}): leave "
                    f"rejected rows out (--allow-rejected in a stage, `Cache.rejected` in Python)"
                )
        return asked

    def _shard(self, number: int) -> MappedShard:
        first = number * self._per_shard
        shard = Shard(self.split, self.spec.table, number, first, min(first + self._per_shard, self.rows))
        if shard.file not in self._opened:
            mapped = MappedShard(self._folder / shard.file)
            if mapped.metadata.get("request") != self._request:
                raise Refused(
                    f"shard {mapped.path} is of another cache: bring its own back, or run `mmkd cache-teacher` again"
                )
            self._opened[shard.file] = mapped
        return self._opened[shard.file]

    def _gather(self, rows: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        axis = (self.n_views,) if self.n_views and views is None else ()
        if not len(rows):
            return torch.empty((0, *axis, *self.spec.shape), dtype=self.dtype)
        if views is None and len(rows) > 1 and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            return self._read(int(rows[0]), int(rows[-1]) + 1)
        numbers, local = np.divmod(rows, self._per_shard)
        if views is not None:
            local = local * self.n_views + views
        count = self.n_views if views is not None else 1
        first = int(numbers[0])
        if (numbers == first).all():
            found = self._shard(first).items(self.spec.name, count)[local]
        else:
            order = np.argsort(numbers, kind="stable")
            cuts = [0, *(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(rows)]
            found = np.empty(len(rows), self._shard(first).items(self.spec.name, count).dtype)
            for start, end in pairwise(cuts):
                places = order[start:end]
                found[places] = self._shard(int(numbers[places[0]])).items(self.spec.name, count)[local[places]]
        return torch.from_numpy(found.view(np.uint8)).view(self.dtype).view(len(rows), *axis, *self.spec.shape)

    def _read(self, first: int, last: int) -> Tensor:
        parts = []
        while first < last:
            number, local = divmod(first, self._per_shard)
            count = min(last - first, self._per_shard - local)
            parts.append(self._shard(number).read(self.spec.name, local, local + count))
            first += count
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _gather_ragged(self, rows: np.ndarray) -> Ragged:
        values, lengths = [], [0]
        for row in rows.tolist():
            number, local = divmod(row, self._per_shard)
            tensors = self._shard(number).tensors
            start, end = tensors[f"{self.spec.name}.offsets"][local : local + 2].tolist()
            values.append(tensors[f"{self.spec.name}.values"][start:end])
            lengths.append(end - start)
        joined = torch.cat(values) if values else torch.empty((0, *self.spec.shape[1:]), dtype=self.dtype)
        return Ragged(joined, torch.tensor(lengths, dtype=torch.int64).cumsum(0))


class CacheTargets:
    """A split's signals as training asks for them (`core.contracts.Targets`)."""

    def __init__(self, arrays: Mapping[str, SignalArray], index: Index, split: str) -> None:
        self._arrays, self._index, self._split = arrays, index, split
        self.specs: Mapping[str, SignalSpec] = {name: array.spec for name, array in arrays.items()}
        self.n_views = index.n_views

    def view_of(self, row: int, view: int) -> View:
        """The parameters of a picture's view, as the teacher saw it."""
        return DrawnViews.of(self._index, self._split)(row, view)

    def gather(
        self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None
    ) -> dict[str, Tensor | Ragged]:
        """[len(rows), ...] each, in the stored dtype; without `views` a picture's signal has all its views."""
        for signal in signals:
            if signal not in self._arrays:
                raise UserError(f"the cache has no signal {signal!r}{nearest(signal, self._arrays)}")
        return {signal: self._arrays[signal].gather(rows, views) for signal in signals}


class Cache:
    """A finished cache, one split of it at a time.

    `cache["image_cls"][rows]` gathers from `cache.split`; `cache.of_split("val")` is the same cache at another split.
    """

    def __init__(self, artifact: Artifact, split: str | None = None) -> None:
        self.artifact, self.path = artifact, artifact.path
        self.index = Index.from_json(paths.read_json(artifact.path / "index.json"))
        self.splits = tuple(self.index.rows)
        self.split = split if split is not None else ("train" if "train" in self.splits else self.splits[0])
        if self.split not in self.splits:
            raise UserError(f"{artifact.label} has no split {self.split!r}{nearest(self.split, self.splits)}")
        self.n_views, self.seed, self.view_spec = self.index.n_views, self.index.seed, self.index.view_spec
        opened: dict[str, MappedShard] = {}
        self.signals: Mapping[str, SignalArray] = {
            name: SignalArray(spec, self.index, self.split, artifact, opened)
            for name, spec in self.index.signals.items()
            if spec.table in self.index.rows[self.split]
        }

    def __getitem__(self, signal: str) -> SignalArray:
        if signal not in self.signals:
            raise UserError(f"{self.artifact.label} has no signal {signal!r}{nearest(signal, self.signals)}")
        return self.signals[signal]

    def of_split(self, split: str) -> Cache:
        return self if split == self.split else Cache(self.artifact, split)

    def targets(self, split: str) -> CacheTargets:
        """The signals of a split for training."""
        return CacheTargets(self.of_split(split).signals, self.index, split)

    def rejected(self, table: str) -> np.ndarray:
        """Rows of the split's table that hold no signal, int64, in order."""
        return self.index.rejected_rows(self.split, table)


def open_cache(path_or_name: str | Path, split: str | None = None, root: Path | None = None) -> Cache:
    """A finished, undamaged cache by name or path; Refused otherwise, naming the file.

    split: "train" where there is one, else the first. root: of all artifacts (default: MMKD_ROOT, else ./mmkd-work).
    """
    return Cache(artifacts.open_artifact(root or paths.default_root(), str(path_or_name), "cache"), split)
