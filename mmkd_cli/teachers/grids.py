"""Grids of features: what a teacher says of each cell of a picture, of one size or of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from mmkd_cli.architectures.grids import CellsOf
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SignalSpec
from mmkd_cli.data.grid_transform import GridTransform
from mmkd_cli.data.signals import GRID, GRID_MASK, GRID_SIZE

Resize = Literal["model", "warp", "short", "pad"]
RESIZE = (
    "as the model's own evaluation; warp to height x width; short side and longest side, in the picture's aspect; the "
    "same, padded to height x width (upright: width x height)"
)


class GridInput(Config):
    """How pictures are resized for a grid."""

    resize: Resize = key("model", RESIZE, source="[U] what the model was evaluated with")
    height: int = key(600, "of short and pad the short side", unit="pixels", source="[C] CLIP-ViL grid_feats", ge=1)
    width: int = key(1000, "of short and pad the longest side", unit="pixels", source="[C] CLIP-ViL grid_feats", ge=1)
    interpolation: Literal["bilinear", "bicubic"] = key("bilinear", "of the resizing", source="[C] CLIP-ViL grid_feats")

    def transform(self, mean: Sequence[float], std: Sequence[float]) -> GridTransform | None:
        """None: the model's own."""
        if self.resize == "model":
            return None
        return GridTransform(self.resize, self.height, self.width, self.interpolation, tuple(mean), tuple(std))


def grid_specs(cells: CellsOf, transform: Any, default: bool) -> dict[str, SignalSpec]:
    """`grid` [cells, C], row by row, and `grid_size` [2], its rows and columns; padded pictures also have `grid_mask`
    [cells], 1 where a cell holds some of the picture. `cells` runs on the meta device."""
    height, width = transform.size
    with torch.device("meta"), torch.no_grad():
        _, channels, rows, columns = cells(torch.empty(1, 3, height, width)).shape
    kind = getattr(transform, "resize", "model")
    many = rows * columns
    if kind == "short":  # the largest is a square or the rectangle, whichever has more cells
        side = min(height, width)
        with torch.device("meta"), torch.no_grad():
            many = max(many, cells(torch.empty(1, 3, side, side)).shape[2:].numel())
    specs = [
        SignalSpec(GRID, "images", (many, channels), ragged=kind == "short", default=default, along=(GRID_SIZE,)),
        SignalSpec(GRID_SIZE, "images", (2,), dtype="uint16", default=default),
    ]
    if kind == "pad":
        specs[0] = SignalSpec(GRID, "images", (many, channels), default=default, along=(GRID_SIZE, GRID_MASK))
        specs.append(SignalSpec(GRID_MASK, "images", (many,), dtype="uint8", default=default))
    return {spec.name: spec for spec in specs}
