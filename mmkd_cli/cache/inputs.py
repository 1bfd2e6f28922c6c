"""What a teacher sees of a table's rows: pictures through its transform, texts through its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mmkd_cli.cache.index import Index
from mmkd_cli.core.contracts import Batch, Teacher, View
from mmkd_cli.data.batches import batches
from mmkd_cli.data.prepared import PreparedData
from mmkd_cli.data.views import ViewSpec, view

Rows = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Table rows, int64 [B]; or these with the view of each, int64 [B]."""


@dataclass(frozen=True)
class DrawnViews:
    """(row, view) -> View of one split's pictures. Picklable: worker processes call it."""

    spec: ViewSpec
    seed: int
    split: str

    @classmethod
    def of(cls, index: Index, split: str) -> DrawnViews:
        """The views that a cache's teacher saw of a split's pictures."""
        return cls(ViewSpec(**(index.view_spec or {})), index.seed, split)

    def __call__(self, row: int, number: int) -> View:
        return view(self.spec, self.seed, self.split, row, number)


@dataclass
class TeacherInputs:
    """Batches of prepared data in a teacher's own form. workers: processes that decode pictures, 0 is a thread."""

    teacher: Teacher
    data: PreparedData
    workers: int
    index: Index

    def batches(self, split: str, table: str, rows: Iterable[Rows]) -> Iterator[Batch]:
        """In the order of `rows`, which is asked a few batches ahead; see `data.batches`."""
        views = DrawnViews.of(self.index, split) if self.index.views_of(table) else None
        for batch in batches(
            self.data.table(table, split),
            table,
            rows,
            transform=self.teacher.picture_transform if table == "images" else None,
            tokenize=self.teacher.tokenize if table != "images" else None,
            workers=self.workers,
            views=views,
        ):
            yield {**batch, "split": split}

    def every_view(self, table: str, rows: np.ndarray) -> Rows:
        """Rows as one forward takes them: with the views axis each row once a view, views of a row side by side."""
        n_views = self.index.views_of(table)
        if not n_views:
            return rows
        return np.repeat(rows, n_views), np.tile(np.arange(n_views), len(rows))
