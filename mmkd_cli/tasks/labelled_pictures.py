"""Pictures with a class each as training rows, in another view and with other augmentation in each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.labels import COLUMN, read_labels
from mmkd_cli.data.viewed import ViewedPictures
from mmkd_cli.tasks.written_feed import table_of, usable_rows


@dataclass
class LabelledPictures:
    """Labelled pictures of one split, a row each (`core.contracts.Feed`). image_rows, labels int64 [rows]."""

    name: str
    weight: float
    image_rows: np.ndarray
    labels: np.ndarray
    pictures: ViewedPictures
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.image_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """pixels uint8 [B, 3, H, W], label int64 [B]; row, epoch and step int64 [B], by which pictures are changed."""
        image_rows = self.image_rows[rows]
        return {
            "pixels": self.pictures(image_rows, image_rows, at.epoch),
            COLUMN: torch.from_numpy(self.labels[rows]),
            "row": torch.from_numpy(image_rows),
            "epoch": torch.full((len(rows),), at.epoch),
            "step": torch.full((len(rows),), at.step),
        }


def label_names(data: TrainingData) -> Any:
    """`data.labels.Labels` of the training pictures; UserError where they have none, or numbers."""
    found = read_labels(labelled_images(data, "train"), f"data {data.name!r}, train")
    if found.names is None:
        raise UserError(f"data {data.name!r}: labels of its pictures are numbers to be met, not classes")
    return found


def labelled_images(data: TrainingData, split: str) -> Any:
    """The table with its features, once it is known to have labels."""
    table_of(data, split, "images", ("image", COLUMN))
    return data.tables(split)["images"]


def labelled_pictures(
    data: TrainingData, split: str, names: Sequence[str], seen: ViewedPictures
) -> LabelledPictures:  # fmt: skip
    """The pictures of a split that have a label and were not rejected. seen: how, of no table yet."""
    table = labelled_images(data, split)
    values = read_labels(table, f"data {data.name!r}, {split}", names).values
    rows = usable_rows(data, split, "images", None, len(table))
    rows = rows[np.isfinite(values[rows])]
    if not len(rows):
        raise UserError(f"data {data.name!r} has no labelled pictures in {split!r}: name data with labels by --data")
    seen.images = table.select_columns(["image"]).with_format("arrow")
    return LabelledPictures(data.name, data.weight, rows, values[rows].astype(np.int64), seen)
