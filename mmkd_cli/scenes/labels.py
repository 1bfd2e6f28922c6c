"""Class labels of scenes: what the most prominent object is."""

from __future__ import annotations

from mmkd_cli.scenes.description import Scene
from mmkd_cli.scenes.vocabulary import COLOURS, SHAPES

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "colour-shape": tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
}
"""Class names by what is labelled; a label is a position in them."""


def class_label(scene: Scene, by: str = "shape") -> int:
    """The class of a scene's first (largest, then leftmost) object by "shape", "colour" or "colour-shape"."""
    first = scene.objects[0]
    names = {"shape": first.shape, "colour": first.colour, "colour-shape": f"{first.colour} {first.shape}"}
    return CLASS_NAMES[by].index(names[by])
