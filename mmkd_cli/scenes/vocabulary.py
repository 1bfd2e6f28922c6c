"""The words of the built-in world, read from `vocabulary.json`: canonical names, synonyms, colours, radii."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

VOCABULARY: dict[str, Any] = json.loads(files(__package__).joinpath("vocabulary.json").read_text(encoding="utf-8"))

SHAPES: tuple[str, ...] = tuple(VOCABULARY["shapes"])
COLOURS: tuple[str, ...] = tuple(VOCABULARY["colours"])
SIZES: tuple[str, ...] = tuple(VOCABULARY["sizes"])
FILLS: tuple[str, ...] = tuple(VOCABULARY["fills"])
GROUND_COLOURS: tuple[str, ...] = tuple(VOCABULARY["ground_colours"])
TEXTURES: tuple[str, ...] = tuple(VOCABULARY["textures"])
PLAIN_FILLS, PLAIN_TEXTURES = ("solid",), ("plain",)
RELATIONS: tuple[str, ...] = tuple(VOCABULARY["relations"])
POSITIONS: tuple[str, ...] = tuple(VOCABULARY["positions"])

UNITS = 64
"""A scene is laid out on a grid of this many units a side; centres and radii are whole units."""

RADII: dict[str, int] = {size: entry["radius"] for size, entry in VOCABULARY["sizes"].items()}


def rgb(colour: str) -> tuple[int, int, int]:
    """The colour of an object or of a ground by its canonical name, 0 to 255."""
    table = VOCABULARY["colours"] if colour in VOCABULARY["colours"] else VOCABULARY["ground_colours"]
    red, green, blue = table[colour]["rgb"]
    return red, green, blue
