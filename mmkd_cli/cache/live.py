"""The teacher asked during training: the same numbers as from its cache, computed again each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.cache.inputs import DrawnViews, Rows, TeacherInputs
from mmkd_cli.cache.reader import Ragged
from mmkd_cli.core.contracts import SignalSpec, Teacher, View


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

    def gather(self, signal: str, rows: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        """[len(rows), ...] on the CPU; `views` names the view of each row, None is the evaluation transform."""
        spec = self.specs[signal]
        asked = np.asarray(rows, dtype=np.int64)
        if views is None:
            rows_said, back = np.unique(asked, return_inverse=True)
            said = self._run(spec, self._cut(rows_said))
        else:
            pairs, back = np.unique(np.stack([asked, np.asarray(views, dtype=np.int64)], 1), axis=0,
                                    return_inverse=True)  # fmt: skip
            said = self._run(spec, zip(self._cut(pairs[:, 0]), self._cut(pairs[:, 1]), strict=True))
        return _select(said, torch.from_numpy(back.reshape(-1)), spec)

    def _cut(self, values: np.ndarray) -> Iterator[np.ndarray]:
        for first in range(0, len(values), self.batch_size):
            yield np.ascontiguousarray(values[first : first + self.batch_size])

    def _run(self, spec: SignalSpec, rows: Iterable[Rows]) -> list[Tensor]:
        """A tensor a batch; of a ragged signal a tensor a row."""
        parts: list[Tensor] = []
        for batch in self.inputs.batches(self.split, spec.table, rows):
            value = self.teacher(batch, [spec.name])[spec.name]
            parts.extend(item.cpu() for item in value) if spec.ragged else parts.append(value.cpu())
        return parts


def _select(said: list[Tensor], back: Tensor, spec: SignalSpec) -> Tensor:
    if not spec.ragged:
        return torch.cat(said).index_select(0, back) if said else torch.empty((0, *spec.shape))
    items = [said[place] for place in back.tolist()]
    offsets = torch.tensor([0, *(len(item) for item in items)], dtype=torch.int64).cumsum(0)
    return Ragged(torch.cat(items) if items else torch.empty((0, *spec.shape[1:])), offsets).padded()
