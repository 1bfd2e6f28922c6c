"""Grids of features of pictures of one size or of many, by a frozen image tower or by one that is trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.signals import GRID, GRID_MASK, GRID_SIZE

CellsOf = Callable[[Tensor], Tensor]
"""Normalised pixels [B, 3, H, W] -> a map [B, C, h, w]."""


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
        pixels_last = transform.normalize(batch, dtype).contiguous(memory_format=torch.channels_last)
        found = cells(pixels_last)  # convolutions are faster so
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


class GridTower(nn.Module):
    """An image tower that is trained with what sees through it (papers: CLIP-ViL_p, end to end).

    visual: the tower without what a grid does not need. cells: (visual, normalised pixels [B, 3, H, W]) -> a map.
    batch_norm: of its batch norms, `train` (each size of pictures in a batch apart) or `frozen`.
    """

    def __init__(
        self, visual: nn.Module, cells: Callable[[Any, Tensor], Tensor], transform: Any,
        batch_norm: Literal["train", "frozen"] = "train",
    ) -> None:  # fmt: skip
        super().__init__()
        if getattr(transform, "resize", "model") == "short":
            raise UserError("teacher.grid.resize=short gives grids of many sizes: a tower is trained with pad, warp or "
                            "the model's own size")  # fmt: skip
        self.visual, self.transform, self._cells, self._batch_norm = visual, transform, cells, batch_norm
        self.train(self.training)

    def forward(self, pixels: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        """`teachers.grids.grid_specs`' signals of uint8 pictures [3, h, w], with gradient."""
        device: Any = next(self.visual.parameters()).device
        return grid_signals(pixels, lambda found: self._cells(self.visual, found), self.transform, device,
                            torch.float32)  # fmt: skip

    def train(self, mode: bool = True) -> Self:
        """Frozen batch norms stay as in evaluation."""
        super().train(mode)
        if self._batch_norm == "frozen":
            for module in self.visual.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval().requires_grad_(False)
        return self
