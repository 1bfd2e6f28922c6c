"""Reads a scene back from its pixels and its captions, with nothing of the code that made them but the words.

Pictures are read at 256 px, where even a thin rim holds pixels of the pure colour.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mmkd_cli.scenes.vocabulary import VOCABULARY

SIDE = 256
SCALE = SIDE // 64


@dataclass(frozen=True)
class Blob:
    """A connected patch of one pure colour: its mask [256, 256] and its box in units."""

    colour: str
    mask: np.ndarray
    left: float
    top: float
    right: float
    bottom: float


def read_blobs(picture: np.ndarray) -> list[Blob]:
    """All connected patches of the colours of objects in a picture [256, 256, 3]."""
    blobs = []
    for colour, entry in VOCABULARY["colours"].items():
        rest = np.abs(picture.astype(int) - np.array(entry["rgb"])).max(axis=2) <= 1
        while rest.any():
            mask = np.zeros_like(rest)
            mask[tuple(np.argwhere(rest)[0])] = True
            while True:
                grown = grow(mask, 1) & rest
                if (grown == mask).all():
                    break
                mask = grown
            rest &= ~mask
            rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / SCALE
            blobs.append(Blob(colour, mask, *box.tolist()))
    return blobs


def grow(mask: np.ndarray, steps: int) -> np.ndarray:
    """A mask with all pixels at most `steps` away in each direction."""
    for _ in range(steps):
        padded = np.pad(mask, ((1, 1), (0, 0)))
        mask = padded[:-2] | mask | padded[2:]
        padded = np.pad(mask, ((0, 0), (1, 1)))
        mask = padded[:, :-2] | mask | padded[:, 2:]
    return mask


def silhouette(shape: str, radius: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A shape of this radius around 0 by a formula of its own. x, y [h, w] -> bool [h, w]."""
    u, v = x / radius, y / radius
    if shape == "circle":
        return u * u + v * v <= 0.96
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 0.88
    if shape == "triangle":
        return (v <= 0.8) & (abs(u) <= (v + 0.98) * 0.55)
    if shape == "diamond":
        return abs(u) + abs(v) <= 1
    if shape == "cross":
        return (np.minimum(abs(u), abs(v)) <= 0.4) & (np.maximum(abs(u), abs(v)) <= 1)
    if shape == "moon":
        return ((u - 0.2) ** 2 + v * v <= 1) & ((u - 0.6) ** 2 + v * v >= 0.86**2)
    if shape == "heart":
        a, b = 1.15 * u, -1.2 * v + 0.1
        return (a * a + b * b - 1) ** 3 - a * a * b**3 <= 0
    angle = (np.arctan2(u, -(v - 0.08)) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5
    tip, dent = np.array([1.0, 0.0]), 0.46 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    along, across = np.hypot(u, v - 0.08) * np.cos(angle), np.hypot(u, v - 0.08) * abs(np.sin(angle))
    return (dent[0] - tip[0]) * across - (dent[1] - tip[1]) * (along - tip[0]) >= 0


def words_of(table: dict[str, list[str]]) -> dict[str, str]:
    """Synonym -> canonical word."""
    return {word: name for name, words in table.items() for word in words}


SHAPES = {word: name for name, pairs in VOCABULARY["shapes"].items() for pair in pairs for word in pair}
COLOURS = words_of({name: entry["words"] for name, entry in VOCABULARY["colours"].items()})
SIZES = words_of({name: entry["words"] for name, entry in VOCABULARY["sizes"].items()})
FILLS = words_of(VOCABULARY["fills"])
RELATIONS = words_of(VOCABULARY["relations"])
PLACES = words_of(VOCABULARY["positions"])
GROUND_COLOURS = words_of({name: entry["words"] for name, entry in VOCABULARY["ground_colours"].items()})
TEXTURES = words_of(VOCABULARY["textures"])


def either(words: dict[str, str] | list[str], name: str) -> str:
    """A named group of alternatives, the longest first."""
    return f"(?P<{name}>{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"


def noun_pattern(number: str) -> str:
    return (
        f"(?:{either(SIZES, 'size' + number)} )?(?:{either(FILLS, 'fill' + number)} )?"
        f"{either(COLOURS, 'colour' + number)} {either(SHAPES, 'shape' + number)}"
    )


def noun(match: re.Match[str], number: str = "") -> dict[str, str]:
    """What a noun phrase says, in canonical words."""
    found = match.groupdict()
    tables = {"size": SIZES, "fill": FILLS, "colour": COLOURS, "shape": SHAPES}
    return {key: table[found[key + number]] for key, table in tables.items() if found[key + number]}
