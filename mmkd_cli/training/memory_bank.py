"""Vectors of earlier batches, kept as further negatives of a contrastive loss: first in, first out.

Sources: Wu et al. 2018, He et al. 2020 (MoCo); Cares' thesis, whose code (public repository TimCares/MasterThesis,
src/modules/contrastive_learning.py) begins with zeros or with vectors of random positive numbers.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Start = Literal["empty", "zeros", "random"]
NO_PICTURE = -1


class MemoryBank(nn.Module):
    """The last `size` vectors [D], normalised, with the picture of each and its age.

    start: what the places hold that nothing was written to: nothing (they are left out), zeros, or unit vectors of
    random positive numbers. grown_from: how many places there are at first (None: all), see `grow`.
    All state is in buffers, and is the same on all processes, which give it the same global batches.
    """

    vectors: Tensor
    pictures: Tensor
    ages: Tensor
    kept: Tensor
    next: Tensor
    places: Tensor

    def __init__(self, size: int, width: int, start: Start = "empty", grown_from: int | None = None) -> None:
        super().__init__()
        first = {"empty": torch.zeros, "zeros": torch.zeros, "random": torch.rand}[start](size, width)
        self.register_buffer("vectors", F.normalize(first, dim=1))
        self.register_buffer("pictures", torch.full((size,), NO_PICTURE))
        self.register_buffer("ages", torch.ones(size, dtype=torch.int64))
        self.register_buffer("kept", torch.full((size,), start != "empty"))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))
        self.register_buffer("places", torch.tensor(size if grown_from is None else min(grown_from, size)))
        self._grows = grown_from is not None

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """vectors [K, D], pictures int64 [K] (NO_PICTURE where none is known), ages int64 [K], kept bool [K]."""
        count = int(self.places) if self._grows else len(self.vectors)  # the device is waited for only where it grows
        return self.vectors[:count], self.pictures[:count], self.ages[:count], self.kept[:count]

    @torch.no_grad()
    def append(self, vectors: Tensor, pictures: Tensor | None = None) -> None:
        """Keep vectors [N, D] of the global batch in the places of the oldest; all others are a step older."""
        count = int(self.places) if self._grows else len(self.vectors)
        newest = F.normalize(vectors.float(), dim=1)[-count:]
        where = (self.next + torch.arange(len(newest), device=newest.device)) % self.places
        self.ages += 1
        self.vectors[where] = newest
        self.pictures[where] = NO_PICTURE if pictures is None else pictures[-count:]
        self.ages[where] = 1
        self.kept[where] = True
        self.next.copy_((self.next + len(newest)) % self.places)

    @torch.no_grad()
    def grow(self, places: int) -> None:
        """Have so many places, of `size` at most; the new ones are written to before the oldest are."""
        before, after = int(self.places), min(places, len(self.vectors))
        if after <= before:
            return
        by_age = (self.next + torch.arange(before, device=self.next.device)) % before
        for part in (self.vectors, self.pictures, self.ages, self.kept):
            part[:before] = part[by_age].clone()
        self.next.fill_(before)
        self.places.fill_(after)


class MovingAverage(nn.Module):
    """A copy of a model whose weights follow it, theta_k = m theta_k + (1 - m) theta_q; always in evaluation mode."""

    def __init__(self, copy: nn.Module, momentum: float) -> None:
        super().__init__()
        self.model, self.momentum = copy.requires_grad_(False).eval(), momentum

    def train(self, mode: bool = True) -> MovingAverage:
        """The copy stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """One step after `model`, whose trained parameters have the copy's names."""
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        pairs = [(value, trained[name]) for name, value in self.model.named_parameters() if name in trained]
        copies, sources = ([pair[side] for pair in pairs] for side in (0, 1))
        torch._foreach_mul_(copies, self.momentum)
        torch._foreach_add_(copies, sources, alpha=1 - self.momentum)
