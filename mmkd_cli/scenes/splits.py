"""Which combinations are kept out of training, so that compositional tests are real.

Held out are blocks of two colours x two shapes, so that both pictures of a swap within a block are held out, and
blocks of two shapes x relation x two shapes. Every word of a held-out combination is seen in many others.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmkd_cli.scenes.description import SceneObject
from mmkd_cli.scenes.geometry import direction, is_inside
from mmkd_cli.scenes.vocabulary import COLOURS, SHAPES

SPLITS: tuple[str, ...] = ("train", "val", "test")

HELD_OUT_SHAPE_BLOCK: tuple[int, ...] = (1, 3, 0, 2)
"""Of colour block k (colours 2k and 2k + 1) the block of shapes that is held out."""

HELD_OUT_RELATIONS: frozenset[tuple[int, str, int]] = frozenset(
    {
        (0, "left of", 1),
        (0, "above", 1),
        (2, "left of", 3),
        (2, "above", 3),
        (3, "inside", 0),
    }
)
"""(block of the subject's shape, relation, block of the other's shape)."""

SHAPE_BLOCK: dict[str, int] = {shape: position // 2 for position, shape in enumerate(SHAPES)}
COLOUR_BLOCK: dict[str, int] = {colour: position // 2 for position, colour in enumerate(COLOURS)}


def is_held_out_pair(colour: str, shape: str) -> bool:
    """Whether no training scene has this colour on this shape."""
    return HELD_OUT_SHAPE_BLOCK[COLOUR_BLOCK[colour]] == SHAPE_BLOCK[shape]


SEEN_SHAPES: dict[str, tuple[str, ...]] = {c: tuple(s for s in SHAPES if not is_held_out_pair(c, s)) for c in COLOURS}
SEEN_COLOURS: dict[str, tuple[str, ...]] = {s: tuple(c for c in COLOURS if not is_held_out_pair(c, s)) for s in SHAPES}
HELD_OUT_SHAPES: dict[str, tuple[str, ...]] = {c: tuple(s for s in SHAPES if is_held_out_pair(c, s)) for c in COLOURS}


def is_held_out_relation(a: SceneObject, b: SceneObject) -> bool:
    """Whether no training scene has shapes like these in the relation in which `a` stands to `b`."""
    name = "inside" if is_inside(a, b) else direction(a, b)
    return name is not None and (SHAPE_BLOCK[a.shape], name, SHAPE_BLOCK[b.shape]) in HELD_OUT_RELATIONS


def held_out_combinations(objects: Sequence[SceneObject]) -> tuple[str, ...]:
    """The kinds of combination in these objects that no training scene has."""
    kinds = []
    if any(is_held_out_pair(item.colour, item.shape) for item in objects):
        kinds.append("colour-shape")
    if any(is_held_out_relation(a, b) for a in objects for b in objects if a is not b):
        kinds.append("relation")
    return tuple(kinds)


def wanted_combination(split: str, index: int) -> str | None:
    """The kind of held-out combination that row `index` of a split shows, None for a seen scene.

    Even rows of test are seen, as all of train and val; odd ones take turns between the two kinds.
    """
    if split != "test" or index % 2 == 0:
        return None
    return "colour-shape" if index % 4 == 1 else "relation"
