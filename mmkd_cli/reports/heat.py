"""What a model looked at, as heat over a picture: shares of attention of the cells of a grid, or of regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Numbers = NDArray[np.float64]
Field = Callable[[int, int], Numbers]
"""Width and height in pixels -> [height, width]: 0 where there is no heat, whatever the most is."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in fractions of a picture."""

SIDE_PX = 352
"""Longest side of a heated picture: what thumbnails are made from."""
EVEN = 3.0
_STRONGEST = 0.8
"""Share of the heat's colour where it is hottest."""


def heated(picture: Image, field: Field) -> Image:
    """A picture of at most SIDE_PX, half grey, with a field's heat over it, yellow to red.

    Red is the most, unless that is less than EVEN times the mean: who looks everywhere alike leaves the picture to see.
    """
    from PIL import Image as Pictures

    small = picture.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    found = field(*small.size)
    most = max(found.max(), EVEN * found.mean())
    strength = (found / most if most > 0 else found)[:, :, None]
    pixels = np.asarray(small, dtype=np.float64)
    pixels = 0.5 * pixels + 0.5 * pixels.mean(axis=2, keepdims=True)
    hot = np.concatenate([np.full_like(strength, 255.0), 220 - 190 * strength, 70 - 50 * strength], axis=2)
    mixed = pixels + _STRONGEST * strength * (hot - pixels)
    return Pictures.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def over_cells(shares: Numbers, there: NDArray[np.bool_], seen: Box) -> Field:
    """Between the centres of cells linear. shares [rows, columns]; there: cells that hold some of the picture, of which
    alone heat is drawn. seen: where the grid lies; beyond 0 and 1 the picture was padded, outside there is no heat."""
    left, top, right, bottom = seen

    def field(width: int, height: int) -> Numbers:
        down = _weights(height, top, bottom, shares.shape[0])
        across = _weights(width, left, right, shares.shape[1])
        known = down @ there.astype(np.float64) @ across.T
        found = down @ np.where(there, shares, 0.0) @ across.T
        spread: Numbers = np.divide(found, known, out=np.zeros_like(found), where=known > 0)
        return spread

    return field


def over_regions(shares: Numbers, boxes: Numbers) -> Field:
    """At each pixel the shares of its regions together. shares [n]; boxes [n, 4]: left, top, right, bottom, in
    fractions of the picture."""

    def field(width: int, height: int) -> Numbers:
        heat = np.zeros((height, width))
        for share, box in zip(shares, boxes * [width, height, width, height], strict=True):
            left, top = np.floor(box[:2]).astype(int)
            right, bottom = np.ceil(box[2:]).astype(int)
            heat[max(top, 0) : bottom, max(left, 0) : right] += share
        return heat

    return field


def _weights(pixels: int, low: float, high: float, cells: int) -> Numbers:
    """[pixels, cells]: what each cell counts at each pixel of an axis on which the cells lie from low to high."""
    at = ((np.arange(pixels) + 0.5) / pixels - low) / (high - low)
    place = np.clip(at * cells - 0.5, 0, cells - 1)
    first = np.minimum(place.astype(int), max(cells - 2, 0))
    weights = np.zeros((pixels, cells))
    weights[np.arange(pixels), first] = 1 - (place - first)
    if cells > 1:
        weights[np.arange(pixels), first + 1] = place - first
    return np.where(((at >= 0) & (at <= 1))[:, None], weights, 0.0)
