"""The teacher asked during training: the same numbers as from its cache, computed again each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.cache.inputs import DrawnViews, Rows, TeacherInputs
from mmkd_cli.core.contracts import Ragged, SignalSpec, Teacher, View


class LiveTargets:
    """Signals of a split from a loaded teacher (`core.contracts.Targets`), in the precision it computes in.

    batch_size: rows of one forward, to be the cache's for the cache's very numbers. A row asked for several times in
    one gather is computed once.
    """

    def __init__(self, teacher: Teacher, inputs: TeacherInputs, split: str, batch_size: int = 64) -> None:
        self.teacher, self.inputs, self.split, self.batch_size = teacher, inputs, split, batch_size
        tables = inputs.data.tables(split)
        self.specs: Mapping[str, SignalSpec] = {
            name: spec for name, spec in teacher.signals().items() if spec.table in tables
        }
        self.n_views = inputs.index.n_views

    def view_of(self, row: int, view: int) -> View:
        """The parameters of a picture's view, as the teacher sees it."""
        return DrawnViews.of(self.inputs.index, self.split)(row, view)

    def gather(
        self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None
    ) -> dict[str, Tensor | Ragged]:
        """As a cache gives them, on the CPU; all signals of a row in one forward."""
        specs = [self.specs[signal] for signal in signals]
        (table,) = {spec.table for spec in specs}
        asked, n_views = np.asarray(rows, dtype=np.int64), self.inputs.index.views_of(table)
        if not n_views:
            seen, back = np.unique(asked, return_inverse=True)
            said = self._run(specs, table, self._cut(seen))
        else:
            every = np.tile(np.arange(n_views), len(asked)) if views is None else np.asarray(views) % n_views
            pairs = np.stack([np.repeat(asked, n_views) if views is None else asked, every], axis=1)
            seen, back = np.unique(pairs, axis=0, return_inverse=True)
            said = self._run(specs, table, zip(self._cut(seen[:, 0]), self._cut(seen[:, 1]), strict=True))
        axis = (len(asked), n_views) if n_views and views is None else (len(asked),)
        return {spec.name: _select(said[spec.name], back.reshape(-1), spec, axis) for spec in specs}

    def _cut(self, values: np.ndarray) -> Iterator[np.ndarray]:
        for first in range(0, len(values), self.batch_size):
            yield np.ascontiguousarray(values[first : first + self.batch_size])

    def _run(self, specs: Sequence[SignalSpec], table: str, rows: Iterable[Rows]) -> dict[str, list[Tensor]]:
        """Of each signal a tensor a batch; of a ragged one a tensor a row."""
        said: dict[str, list[Tensor]] = {spec.name: [] for spec in specs}
        for batch in self.inputs.batches(self.split, table, rows):
            values = self.teacher(batch, list(said))
            for spec in specs:
                value = values[spec.name]
                said[spec.name].extend(item.cpu() for item in (value if spec.ragged else [value]))
        return said


def _select(said: list[Tensor], back: np.ndarray, spec: SignalSpec, axis: tuple[int, ...]) -> Tensor | Ragged:
    if not spec.ragged:
        if not said:
            return torch.empty((*axis, *spec.shape))
        chosen = torch.cat(said).index_select(0, torch.from_numpy(back))
        return chosen.view(*axis, *chosen.shape[1:])
    items = [said[place] for place in back.tolist()]
    offsets = torch.tensor([0, *(len(item) for item in items)], dtype=torch.int64).cumsum(0)
    return Ragged(torch.cat(items) if items else torch.empty((0, *spec.shape[1:])), offsets)
