"""Training rows of which a text is to be written: what is read, what is written, and the picture's cached vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkd_cli.core.contracts import Batch, Position, Targets, Tokenize, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.signals import dense

Examples = Callable[[np.ndarray, int], tuple[list[str], list[str]]]
"""(rows of the table, epoch) -> what is read and what is written, of each. Picklable."""


@dataclass
class Pictures:
    """The pictures' signal. image_rows int64 [rows of the feed]: of the images table."""

    targets: Targets
    signal: str
    image_rows: np.ndarray


@dataclass
class WrittenFeed:
    """Texts to be written, of the rows `table_rows` of a task's table (`core.contracts.Feed`).

    read, write: tokenizers of sources and of targets. pictures: None where the model sees none.
    """

    name: str
    weight: float
    table_rows: np.ndarray
    examples: Examples
    read: Tokenize
    write: Tokenize
    pictures: Pictures | None = None
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.table_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """source_ids, source_mask int64 [B, L], target_ids, target_mask [B, T], and the picture's signal [B, d], of
        the view that the epoch chooses."""
        sources, targets = self.examples(self.table_rows[rows], at.epoch)
        read, written = self.read(sources), self.write(targets)
        batch: Batch = {
            "source_ids": read["input_ids"], "source_mask": read["attention_mask"],
            "target_ids": written["input_ids"], "target_mask": written["attention_mask"],
        }  # fmt: skip
        if self.pictures is not None:
            of, signal = self.pictures.targets, self.pictures.signal
            views = np.full(len(rows), at.epoch % of.n_views) if of.n_views else None
            batch[signal] = dense(of.gather([signal], self.pictures.image_rows[rows], views)[signal]).float()
        return batch


def table_of(data: TrainingData, split: str, name: str, columns: tuple[str, ...]) -> Any:
    """Columns of a task's table in Arrow format; UserError names what the data lack."""
    table: Any = data.tables(split).get(name)
    if table is None:
        raise UserError(f"data {data.name!r} has no table {name!r} in {split!r}: name data that have it by --data")
    if missing := [column for column in columns if column not in table.column_names]:
        raise UserError(
            f"table {name!r} of data {data.name!r} has no column {missing[0]!r} in {split!r} (there is "
            f"{', '.join(table.column_names)}): name data of this task by --data"
        )
    return table.select_columns([*columns]).with_format("arrow")


def values_of(table: Any, column: str) -> Iterator[Any]:
    """A column of such a table, from its first row to its last; some thousands of values are in memory at a time."""
    for part in table.select_columns([column]).iter(10_000):
        yield from part.column(column).to_pylist()


def usable_rows(data: TrainingData, split: str, name: str, image_rows: np.ndarray | None, rows: int) -> np.ndarray:
    """Rows of a task's table that were not rejected, and whose picture is there and was not; int64, ascending.

    image_rows: [rows], of rows with several pictures [rows, P]: all must be there.
    """
    usable = np.ones(rows, dtype=bool)
    if image_rows is not None:
        there = (image_rows >= 0) & ~np.isin(image_rows, data.rejected(split, "images"))
        usable = there.reshape(rows, -1).all(axis=1)
    usable[data.rejected(split, name)] = False
    return np.flatnonzero(usable)


def pictures_of(data: TrainingData, split: str, signal: str, image_rows: np.ndarray) -> Pictures:
    """The signal of these pictures."""
    targets = data.targets(split)
    if targets is None:
        raise UserError(f"data {data.name!r} comes without a teacher: name a cache, or a teacher with --live")
    return Pictures(targets, signal, image_rows)


def trained_splits(data: TrainingData, split: str, *, sees: bool) -> bool:
    """Whether a feed is made of a split: always of `train`; of `val` where there is one, with its signals."""
    return split == "train" or (split in data.splits and (not sees or data.targets(split) is not None))
