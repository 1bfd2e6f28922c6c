"""Where the objects of a scene lie: apart, touching on a line, or one inside another."""

from __future__ import annotations

from mmkd_cli.scenes.outlines import contact_distance
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import RADII, UNITS

CONTAINERS: tuple[str, ...] = ("circle", "square", "diamond")
"""Shapes whose large form has room for any small one."""

GAP = 3
"""Units between the boxes of objects that neither touch nor nest. From the border objects keep one unit."""

_TRIES = 24

Place = tuple[int, int, int]
"""Centre x, centre y, radius."""


def place(stream: Stream, shapes: list[str], sizes: list[str], arrangement: str) -> list[Place] | None:
    """Places for objects in their order, or None when there is no room.

    `arrangement` rules the first two objects: "apart", "touching", or "inside" (the second inside the first).
    """
    radii = [RADII[size] for size in sizes]
    places: list[Place] = []
    if arrangement == "touching":
        pair = _touching(stream, shapes, radii)
        if pair is None:
            return None
        places.extend(pair)
    elif arrangement == "inside":
        x, y = _anywhere(stream, radii[0])
        places.extend([(x, y, radii[0]), (x, y, radii[1])])
    for radius in radii[len(places) :]:
        for _ in range(_TRIES):
            x, y = _anywhere(stream, radius)
            if all(abs(x - px) >= radius + pr + GAP or abs(y - py) >= radius + pr + GAP for px, py, pr in places):
                places.append((x, y, radius))
                break
        else:
            return None
    return places


def _anywhere(stream: Stream, radius: int) -> tuple[int, int]:
    return stream.between(radius + 1, UNITS - 1 - radius), stream.between(radius + 1, UNITS - 1 - radius)


def _touching(stream: Stream, shapes: list[str], radii: list[int]) -> list[Place] | None:
    """The first object left of or above the second, their edges meeting; None where it would lie in a moon's hollow."""
    axis = stream.choice(("x", "y"))
    distance = contact_distance(shapes[0], radii[0], shapes[1], radii[1], axis)
    low, high = radii[0] + 1, UNITS - 1 - radii[1] - distance
    if low > high or 5 * distance < 3 * (radii[0] + radii[1]):
        return None
    along = stream.between(low, high)
    across = stream.between(max(radii[:2]) + 1, UNITS - 1 - max(radii[:2]))
    if axis == "x":
        return [(along, across, radii[0]), (along + distance, across, radii[1])]
    return [(across, along, radii[0]), (across, along + distance, radii[1])]
