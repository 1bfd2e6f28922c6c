"""Pictures of a table as models see them: as evaluation has it, as a teacher saw them, or cropped anew each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.core.contracts import PictureTransform, Targets, View
from mmkd_cli.data.pictures import decode
from mmkd_cli.data.views import ViewSpec, view

Change = Callable[[Tensor, int, int], Tensor]
"""(pixels uint8 [3, H, W], row, epoch) -> pixels of that shape. Picklable."""


def pixels_of(
    images: Any, rows: np.ndarray, transform: PictureTransform, views: Sequence[View | None] | None = None
) -> list[Tensor]:
    """uint8 [3, H, W] of rows of the table `images`, which is in Arrow format. views: a row's, None: the evaluation
    transform."""
    stored = images[rows.tolist()].column("image")
    return [transform(decode(picture["bytes"].as_py()), seen)
            for picture, seen in zip(stored, views or [None] * len(rows), strict=True)]  # fmt: skip


def teacher_views(targets: Targets | None, epoch: int, rows: np.ndarray) -> tuple[np.ndarray | None, list[View] | None]:
    """In epoch e a cache's view e mod N: its number for each row [B], and the crops; nothing where it has no views."""
    if targets is None or not targets.n_views:
        return None, None
    number = epoch % targets.n_views
    return np.full(len(rows), number), [targets.view_of(row, number) for row in rows.tolist()]


@dataclass
class ViewedPictures:
    """Pictures of one split, which is in Arrow format.

    spec: of the views, a pure function of (seed, split, drawn row, epoch); None: the evaluation transform. change: what
    is done to the pixels of a view afterwards.
    """

    images: Any
    transform: PictureTransform
    split: str
    seed: int
    spec: ViewSpec | None
    change: Change | None = None

    def __call__(self, rows: np.ndarray, drawn: np.ndarray, epoch: int) -> Tensor:
        """rows [B] of the table; drawn [B]: the rows by which views differ (of several captions of one picture the
        captions') -> uint8 [B, 3, H, W]."""
        spec, own = self.spec, drawn.tolist()
        views = None if spec is None else [view(spec, self.seed, self.split, row, epoch) for row in own]
        pixels = pixels_of(self.images, rows, self.transform, views)
        if self.change is not None:
            pixels = [self.change(one, row, epoch) for one, row in zip(pixels, own, strict=True)]
        return torch.stack(pixels)
