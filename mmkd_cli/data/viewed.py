"""Pictures of a table as training sees them: cropped and mirrored anew in each epoch, or as models are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.core.contracts import PictureTransform
from mmkd_cli.data.pictures import decode
from mmkd_cli.data.views import ViewSpec, view

Change = Callable[[Tensor, int, int], Tensor]
"""(pixels uint8 [3, H, W], row, epoch) -> pixels of that shape. Picklable."""


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
        pixels = []
        for stored, row in zip(self.images[rows.tolist()].column("image"), drawn.tolist(), strict=True):
            picture = decode(stored["bytes"].as_py())
            seen = None if self.spec is None else view(self.spec, self.seed, self.split, row, epoch)
            one = self.transform(picture, seen)
            pixels.append(one if self.change is None else self.change(one, row, epoch))
        return torch.stack(pixels)
