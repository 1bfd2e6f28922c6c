"""What walkers see: the views of where they stand and the ways that lead on, of many walks at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.data.walks import HEADINGS, STEP, VIEWS, Houses, Views


def angle_features(heading: Tensor, elevation: Tensor, width: int) -> Tensor:
    """[..., width]: sine and cosine of the heading, then of the elevation, and again (R2R-EnvDrop).

    width: a multiple of 4.
    """
    four = torch.stack([heading.sin(), heading.cos(), elevation.sin(), elevation.cos()], -1).float()
    return four.repeat(*[1] * (four.ndim - 1), width // 4)


@dataclass(frozen=True)
class Observation:
    """Of B walks. facing [B, A]; pictures [B, 36, D] and their angles [B, 36, A]; those of the M ways that lead on,
    [B, M, D] and [B, M, A]; allowed bool [B, M + 1], of these and, last, of stopping. On the CPU: where each way leads
    and the view that one looks at then, int64 [B, M]."""

    facing: Tensor
    pictures: Tensor
    angles: Tensor
    way_pictures: Tensor
    way_angles: Tensor
    allowed: Tensor
    leads: Tensor
    turns: Tensor


class Steps:
    """`Houses` as tensors, for B walks at once. angle_width: of the angles' features."""

    def __init__(self, houses: Houses, views: Views, angle_width: int) -> None:
        self.houses, self.views, self.angle_width = houses, views, angle_width
        self.neighbours, self.edge_view = torch.from_numpy(houses.neighbours), torch.from_numpy(houses.view)
        self.heading, self.elevation = torch.from_numpy(houses.heading), torch.from_numpy(houses.elevation)
        turns = torch.arange(VIEWS) % HEADINGS * STEP
        rise = (torch.arange(VIEWS) // HEADINGS - 1) * STEP
        self._around = angle_features(turns - (torch.arange(HEADINGS) * STEP)[:, None], rise.expand(HEADINGS, -1),
                                      angle_width)  # fmt: skip
        """[12, 36, A]: the views' angles, as one who looks at a heading has them."""
        self._absolute = angle_features(turns, rise, angle_width)

    @cached_property
    def channels(self) -> int:
        """Of a view's picture."""
        return int(self.views(np.zeros(1, dtype=np.int64)).shape[-1])

    def observe(self, node: Tensor, view: Tensor, device: torch.device) -> Observation:
        """What is seen from nodes [B] by those who look at views [B] (CPU)."""
        base, edges = view % HEADINGS, self.neighbours[node]
        most = max(int((edges >= 0).sum(1).max()), 1)
        edges, edge_view = edges[:, :most], self.edge_view[node, :most]
        pictures = self.views(node.numpy()).to(device, non_blocking=True)
        relative = self.heading[node, :most] - (base * STEP)[:, None]
        angles = angle_features(relative, self.elevation[node, :most], self.angle_width).to(device)
        place = edge_view.to(device)[..., None].expand(-1, -1, pictures.shape[-1])
        allowed = torch.cat([edges >= 0, torch.ones(len(node), 1, dtype=torch.bool)], 1)
        return Observation(
            self._absolute[view].to(device), pictures, self._around[base].to(device), pictures.gather(1, place), angles,
            allowed.to(device), edges, edge_view,
        )  # fmt: skip
