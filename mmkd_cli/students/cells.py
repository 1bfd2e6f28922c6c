"""Cells of pictures as models take them: read from a cache's or a teacher's signals, padded, with their places.

B rows, K cells of C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.core.contracts import Batch, Ragged, SignalSpec, Targets, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import GRID, GRID_BOXES, GRID_MASK, GRID_SIZE, padded

CELLS = (GRID, GRID_MASK, "cell_row", "cell_column")
"""Of a batch what is of a picture (`grid_batch`)."""
REGION_PLACES = 20
"""Rows, and columns, that regions' centres are told apart by: as many as the longer side of CLIP-ViL_p's grids has."""


def by_picture(batch: Batch, pictures: int) -> Batch:
    """A batch whose questions are about P pictures each, as B * P rows of a question and one of its pictures."""
    if pictures == 1:
        return batch
    return {
        name: value.flatten(0, 1) if name in CELLS else value.repeat_interleave(pictures, 0)
        for name, value in batch.items() if isinstance(value, Tensor)
    }  # fmt: skip


def grid_spec(data: TrainingData) -> SignalSpec:
    """Of a data set's grids; UserError where it has none."""
    targets = data.targets("train")
    if targets is None:
        raise UserError(f"data {data.name!r} comes without a teacher: name a cache of grids, or a teacher with --live")
    if GRID not in targets.specs:
        raise UserError(f"the teacher of data {data.name!r} gives no {GRID!r}{nearest(GRID, targets.specs)}")
    return targets.specs[GRID]


def grid_names(targets: Targets) -> list[str]:
    """Signals that a picture's cells are read from."""
    return [name for name in (GRID, GRID_SIZE, GRID_MASK, GRID_BOXES) if name in targets.specs]


def grid_batch(said: Mapping[str, Tensor | Ragged], cells: int, mask_padding: bool) -> Batch:
    """A cache's or a teacher's signals of B pictures as models take them, each padded to so many cells.

    `grid` float32 [B, cells, C], `grid_mask` bool [B, cells], and where sizes or boxes are known `cell_row` and
    `cell_column` int64 [B, cells], of a region those of its centre. UserError where a picture has more cells.
    """
    grid, sizes = said[GRID], said.get(GRID_SIZE)
    if isinstance(grid, Ragged):
        longest = int(grid.offsets.diff().max())
        there = torch.arange(cells) < grid.offsets.diff()[:, None]
        grid = grid.padded(max(cells, longest))
    else:
        longest = grid.shape[1]
        mask = said.get(GRID_MASK) if mask_padding else None
        there = grid.new_ones(grid.shape[:2], dtype=torch.bool) if mask is None else mask.bool().to(grid.device)  # type: ignore[union-attr]
        grid, there = F.pad(grid, (0, 0, 0, max(0, cells - longest))), F.pad(there, (0, max(0, cells - longest)))
    if longest > cells:
        raise UserError(
            f"a picture has {longest} cells, more than {cells}: cache the grids of all pictures at one size"
        )
    batch: Batch = {GRID: grid.float(), GRID_MASK: there}
    if isinstance(sizes, Tensor):
        columns = sizes[:, 1:].long().clamp(min=1).to(there.device)
        place = torch.arange(cells, device=there.device).expand(len(sizes), -1) * there  # 0 where there is no cell
        batch |= {"cell_row": place // columns, "cell_column": place % columns}
    if GRID_BOXES in said:
        corners = padded(said[GRID_BOXES], cells).float()
        corners = F.pad(corners, (0, 0, 0, cells - corners.shape[1]))
        places = ((corners[..., :2] + corners[..., 2:]) / 2 * REGION_PLACES).long().clamp(0, REGION_PLACES - 1)
        batch |= {"cell_row": places[..., 1] * there, "cell_column": places[..., 0] * there}
    return batch


def gathered_grids(targets: Targets, rows: np.ndarray, cells: int, mask_padding: bool) -> Batch:
    """Cells of the pictures in these rows, as models take them (`grid_batch`). rows: [B], or [B, P] of several each."""
    batch = grid_batch(targets.gather(grid_names(targets), rows.reshape(-1)), cells, mask_padding)
    return {name: value.unflatten(0, rows.shape) for name, value in batch.items()}
