"""What a teacher's signals are to a training row: of one shape, and how wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmkd_cli.core.contracts import Ragged, TrainingData
from mmkd_cli.core.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import Tensor

GRID, GRID_SIZE, GRID_MASK, GRID_BOXES = "grid", "grid_size", "grid_mask", "grid_boxes"
"""Cells of a picture, its rows and columns of cells, and which of a padded picture's cells hold some of it; where each
lies of cells that are regions: left, top, right, bottom, in fractions of the picture."""


def dense(value: Tensor | Ragged) -> Tensor:
    """A signal that has the same shape in each row."""
    assert not isinstance(value, Ragged)
    return value


def padded(value: Tensor | Ragged, length: int = 0) -> Tensor:
    """[rows, longest, ...] of a signal that may vary in length (`Ragged.padded`)."""
    return value.padded(length) if isinstance(value, Ragged) else value


def signal_width(data: TrainingData, signal: str, axes: int = 1) -> int:
    """The width of a data set's signal, which is one vector a row, or with two axes one a token."""
    targets = data.targets("train")
    if targets is None:
        raise UserError(f"data {data.name!r} comes without a teacher: name a cache, or a teacher with --live")
    if signal not in targets.specs:
        raise UserError(f"the teacher of data {data.name!r} gives no {signal!r}{nearest(signal, targets.specs)}")
    shape = targets.specs[signal].shape
    if len(shape) != axes:
        needed = "one vector is needed" if axes == 1 else "one vector a token is needed"
        raise UserError(f"signal {signal!r} has the shape {list(shape)} a row: {needed}")
    return shape[-1]
