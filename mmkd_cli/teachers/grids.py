"""Grids of features: what a teacher says of each cell of a picture, of one size or of many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SignalSpec
from mmkd_cli.data.grid_transform import GridTransform
from mmkd_cli.data.signals import GRID, GRID_MASK, GRID_SIZE

CellsOf = Callable[[Tensor], Tensor]
"""Normalised pixels [B, 3, H, W] -> a map [B, C, h, w]."""


class GridInput(Config):
    """How pictures are resized for a grid."""

    resize: Literal["model", "warp", "short", "pad"] = key(
        "model", "as the model's own evaluation; warp to height x width; short side and longest side, in the picture's "
        "aspect; the same, padded to height x width (upright: width x height)",
        source="papers: warp 600 x 1000 (VQA), 448 x 448 (captions), pad 384 x 640 (pre-training)",
    )  # fmt: skip
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


def grid_signals(
    pixels: Tensor | Sequence[Tensor], cells: CellsOf, transform: Any, device: str, dtype: torch.dtype
) -> dict[str, Any]:
    """`grid_specs`' signals of uint8 pictures [3, h, w], of one size or of many: those of one size run together."""
    kind = getattr(transform, "resize", "model")
    pictures, inside = list(pixels), [None] * len(pixels)
    if kind == "pad":
        pictures, inside = map(list, zip(*map(transform.on_canvas, pictures), strict=True))
    of_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        of_size[tuple(picture.shape)].append(place)
    grids: list[Any] = [None] * len(pictures)
    sizes = torch.zeros(len(pictures), 2, dtype=torch.int32)
    for places in of_size.values():
        batch = torch.stack([pictures[place] for place in places]).to(device)
        found = cells(transform.normalize(batch, dtype))
        sizes[places] = torch.tensor(found.shape[2:], dtype=torch.int32)
        for place, grid in zip(places, found.flatten(2).transpose(1, 2), strict=True):
            grids[place] = grid
    said: dict[str, Any] = {GRID: grids if kind == "short" else torch.stack(grids), GRID_SIZE: sizes}
    if kind == "pad":
        said[GRID_MASK] = torch.stack([_cells_inside(where, size) for where, size in zip(inside, sizes, strict=True)])
    return said


def _cells_inside(where: Any, size: Tensor) -> Tensor:
    """bool [H, W] -> [cells]: whether a cell, an equal part of the picture, holds some of it."""
    rows, columns = size.tolist()
    return F.adaptive_max_pool2d(where[None].float(), (rows, columns)).flatten().to(torch.uint8)
