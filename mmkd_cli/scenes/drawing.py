"""Pictures of scenes: antialiased sprites, drawn once and kept, laid over a ground."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmkd_cli.scenes.description import Scene
from mmkd_cli.scenes.outlines import outline, signed_distance
from mmkd_cli.scenes.vocabulary import UNITS, rgb

STROKE = 0.22
"""Width of an outline, of the radius, but no more than two units."""

STRIPE = 2.0
"""Width of a stripe and of the gap under it, in units."""

RIM = 1.0
"""Width of the rim of a striped shape, in units."""

TILE = 8
"""Side of one period of a ground's texture, in units."""

TONE = 20
"""How far a texture's second tone is from the ground's colour, of 255."""


def draw(scene: Scene, size: int = UNITS) -> np.ndarray:
    """The picture of a scene: uint8 [size, size, 3]."""
    picture = _ground(scene.ground.colour, scene.ground.texture, size).copy()
    for item in scene.objects:
        left, fraction_x = _corner(item.x - item.radius, size)
        top, fraction_y = _corner(item.y - item.radius, size)
        keep, paint = _sprite(item.shape, item.colour, item.fill, item.radius, size, fraction_x, fraction_y)
        window = picture[top : top + keep.shape[0], 3 * left : 3 * left + keep.shape[1]]
        height, width = window.shape
        blended = np.multiply(window, keep[:height, :width])
        blended += paint[:height, :width]
        blended >>= 8
        window[...] = blended
    return picture.reshape(size, size, 3)


def _corner(units: int, size: int) -> tuple[int, int]:
    """A coordinate in whole pixels, and the rest in UNITS-ths of a pixel."""
    return divmod(units * size, UNITS)


@lru_cache(maxsize=4096)
def _sprite(
    shape: str, colour: str, fill: str, radius: int, size: int, fraction_x: int, fraction_y: int
) -> tuple[np.ndarray, np.ndarray]:
    """What of the ground to keep and what paint to add, uint16 [h, 3 * w] of 256: (ground * keep + paint) >> 8."""
    part = _cover(shape, fill, radius, size, fraction_x, fraction_y)
    paint = part * np.tile(np.array(rgb(colour), dtype=np.uint16), part.shape[0]) + np.uint16(128)
    return np.uint16(256) - part, paint


@lru_cache(maxsize=4096)
def _cover(shape: str, fill: str, radius: int, size: int, fraction_x: int, fraction_y: int) -> np.ndarray:
    """The share of each pixel's channels that a shape covers, of 256: uint16 [h, 3 * w]."""
    unit = size / UNITS
    extent = radius * unit
    side = int(np.ceil(2 * extent + 1))
    x = np.arange(side) + 0.5 - fraction_x / UNITS - extent
    y = np.arange(side) + 0.5 - fraction_y / UNITS - extent
    depth = signed_distance(outline(shape) * extent, x, y)
    cover = np.clip(depth + 0.5, 0.0, 1.0)
    if fill == "outline":
        cover = np.minimum(cover, np.clip(min(STROKE * radius, 2.0) * unit - depth + 0.5, 0.0, 1.0))
    elif fill == "striped":
        rim = np.clip(RIM * unit - depth + 0.5, 0.0, 1.0)
        phase = np.abs((y / unit + STRIPE) % (2 * STRIPE) - STRIPE)
        stripes = np.clip((STRIPE / 2 - phase) * unit + 0.5, 0.0, 1.0)[:, None]
        cover = np.minimum(cover, np.maximum(rim, stripes))
    return np.rint(np.repeat(cover, 3, axis=1) * 256).astype(np.uint16)


@lru_cache(maxsize=64)
def _ground(colour: str, texture: str, size: int) -> np.ndarray:
    """The ground alone: uint8 [size, 3 * size]."""
    at = (np.arange(size) + 0.5) * UNITS / size % TILE
    if texture == "lined":
        second = np.broadcast_to((at < TILE / 4)[:, None], (size, size))
    elif texture == "dotted":
        second = (at[:, None] - TILE / 2) ** 2 + (at[None, :] - TILE / 2) ** 2 < (TILE / 4) ** 2
    elif texture == "checkered":
        second = (at[:, None] < TILE / 2) ^ (at[None, :] < TILE / 2)
    else:
        second = np.zeros((size, size), dtype=bool)
    base = np.array(rgb(colour), dtype=np.int16)
    other = base + TONE if base.max() < 128 else base - TONE
    return np.where(second[:, :, None], other, base).astype(np.uint8).reshape(size, 3 * size)
