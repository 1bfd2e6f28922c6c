"""Scenes: row `index` of a split under a seed is a pure function of these three."""

from __future__ import annotations

from mmkd_cli.scenes.description import Ground, Scene, SceneObject
from mmkd_cli.scenes.layout import CONTAINERS, place
from mmkd_cli.scenes.splits import (
    HELD_OUT_RELATIONS,
    HELD_OUT_SHAPES,
    SEEN_COLOURS,
    SEEN_SHAPES,
    SHAPE_BLOCK,
    held_out_combinations,
    wanted_combination,
)
from mmkd_cli.scenes.stream import SPLIT_KEYS, Stream
from mmkd_cli.scenes.vocabulary import (
    COLOURS,
    FILLS,
    GROUND_COLOURS,
    PLAIN_FILLS,
    PLAIN_TEXTURES,
    SHAPES,
    SIZES,
    TEXTURES,
)

COUNTS: tuple[int, ...] = (1, 2, 2, 2, 2, 3, 3, 3, 4, 4)
PLAIN_COUNTS: tuple[int, ...] = (1, 2, 2, 2, 2, 2, 2, 2, 3, 4)
"""Numbers of objects, each as often as it stands here."""

PLAIN_SIZES: tuple[str, ...] = SIZES[1:]

TOUCHING_PERCENT, INSIDE_PERCENT, ALIKE_PERCENT = 20, 20, 35
"""Scenes whose first two objects touch or nest; objects that take the colour or the shape of an earlier one."""

_DESCRIPTION = 0

_HELD_OUT_RELATIONS = sorted(HELD_OUT_RELATIONS)
_PLAIN_HELD_OUT_RELATIONS = [relation for relation in _HELD_OUT_RELATIONS if relation[1] != "inside"]
_CONTAINERS_BY_COLOUR = {colour: tuple(s for s in SEEN_SHAPES[colour] if s in CONTAINERS) for colour in COLOURS}


def scene(seed: int, index: int, split: str, objects: int = 0, *, plain: bool = False) -> Scene:
    """Row `index` of `split` ("train", "val" or "test") in the world of `seed`.

    objects: how many it shows, 1 to 4; 0: one to four, as drawn. Where it is one, rows of test that would hold out a
    relation hold out a colour-shape pair. plain: of the plain world, where what goes with what is nearly all there is:
    solid objects, none small, none inside another, mostly two, on a ground without texture. Raises ValueError for
    another split, number, or a negative seed or index.
    """
    if split not in SPLIT_KEYS or seed < 0 or index < 0:
        raise ValueError(
            f"scene(seed={seed}, index={index}, split={split!r}): seed and index are 0 or more, "
            f"split is one of {', '.join(SPLIT_KEYS)}: ask for such a row"
        )
    if not 0 <= objects <= max(COUNTS):
        raise ValueError(f"scene(objects={objects}): ask for 1 to {max(COUNTS)}, or 0 for any number")
    stream = Stream(seed, split, index, _DESCRIPTION)
    wanted = wanted_combination(split, index)
    count = stream.choice(PLAIN_COUNTS if plain else COUNTS)
    if objects:
        count = objects
        wanted = "colour-shape" if wanted and count == 1 else wanted
    if wanted == "relation":
        count = max(count, 2)
    ground = Ground(stream.choice(GROUND_COLOURS), stream.choice(PLAIN_TEXTURES if plain else TEXTURES))
    while True:
        sampled = _sample_objects(stream, count, wanted, plain)
        if sampled is not None:
            held_out = held_out_combinations(sampled)
            if held_out == (() if wanted is None else (wanted,)):
                return Scene(seed, split, index, sampled, ground, held_out)


def _sample_objects(stream: Stream, count: int, wanted: str | None, plain: bool) -> tuple[SceneObject, ...] | None:
    """Objects by prominence, or None when they have no room."""
    draw = stream.below(100) if count > 1 else 99
    arrangement = "apart"
    if draw < TOUCHING_PERCENT + INSIDE_PERCENT:
        arrangement = "touching" if draw < TOUCHING_PERCENT else "apart" if plain else "inside"
    cells = _sample_cells(stream, count, wanted)
    if wanted == "relation":
        subject, name, other = stream.choice(_PLAIN_HELD_OUT_RELATIONS if plain else _HELD_OUT_RELATIONS)
        first, second = (other, subject) if name == "inside" else (subject, other)
        cells[0], cells[1] = _cell_of_block(stream, first), _cell_of_block(stream, second)
        arrangement = "inside" if name == "inside" else "touching" if arrangement == "touching" else "apart"
    if arrangement != "apart" and cells[0][0] == cells[1][0]:
        return None
    shapes, sizes = [shape for _, shape in cells], _sample_sizes(stream, count, PLAIN_SIZES if plain else SIZES)
    fills = [stream.choice(PLAIN_FILLS if plain else FILLS) for _ in range(count)]
    if arrangement == "inside":
        if shapes[0] not in CONTAINERS:
            if wanted is not None:
                return None
            cells[0] = (cells[0][0], stream.choice(_CONTAINERS_BY_COLOUR[cells[0][0]]))
            shapes[0] = cells[0][1]
        sizes[0], sizes[1] = "large", "small"
        sizes[2:] = ["small" if size == "large" else size for size in sizes[2:]]
        fills[0] = "outline" if fills[0] == "striped" else fills[0]
    places = place(stream, shapes, sizes, arrangement)
    if places is None:
        return None
    objects = [
        SceneObject(shape, colour, size, fill, x, y, radius)
        for (colour, shape), size, fill, (x, y, radius) in zip(cells, sizes, fills, places, strict=True)
    ]
    objects.sort(key=lambda item: (-item.radius, item.x, item.y))
    return tuple(objects)


def _sample_cells(stream: Stream, count: int, wanted: str | None) -> list[tuple[str, str]]:
    """(colour, shape) of each object: all seen, or with `wanted="colour-shape"` the first and half of the rest not."""
    cells: list[tuple[str, str]] = []
    for position in range(count):
        colour = stream.choice(COLOURS)
        if wanted == "colour-shape" and (position == 0 or stream.percent(50)):
            cells.append((colour, stream.choice(HELD_OUT_SHAPES[colour])))
            continue
        if cells and stream.percent(ALIKE_PERCENT):
            like_colour, like_shape = stream.choice(cells)
            if stream.percent(50):
                cells.append((like_colour, stream.choice(SEEN_SHAPES[like_colour])))
            else:
                cells.append((stream.choice(SEEN_COLOURS[like_shape]), like_shape))
            continue
        cells.append((colour, stream.choice(SEEN_SHAPES[colour])))
    return cells


def _cell_of_block(stream: Stream, block: int) -> tuple[str, str]:
    """A seen (colour, shape) whose shape is of this block."""
    shape = stream.choice([shape for shape in SHAPES if SHAPE_BLOCK[shape] == block])
    return stream.choice(SEEN_COLOURS[shape]), shape


def _sample_sizes(stream: Stream, count: int, known: tuple[str, ...]) -> list[str]:
    """Sizes of objects; of three or four at most one is large, so that there is room for all."""
    sizes = [stream.choice(known) for _ in range(count)]
    if count > 2:
        for position in range(count):
            if sizes[position] == "large" and "large" in sizes[:position]:
                sizes[position] = known[position % (len(known) - 1)]
    return sizes
