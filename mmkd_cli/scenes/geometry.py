"""Relations and places of objects, read from their positions."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from mmkd_cli.scenes.description import Scene, SceneObject
from mmkd_cli.scenes.outlines import contact_distance
from mmkd_cli.scenes.vocabulary import POSITIONS

CLEAR = 1.25
"""A direction holds when the offset along its axis is at least this many times the offset across it."""

CENTRE_LOW, CENTRE_HIGH = 25, 39
"""Centres at these units and between lie in the middle third of the picture."""

INVERSE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "inside": "around",
    "around": "inside",
    "touching": "touching",
}


class Relation(NamedTuple):
    """`objects[subject]` stands in relation `name` to `objects[other]`."""

    subject: int
    name: str
    other: int


def is_inside(inner: SceneObject, outer: SceneObject) -> bool:
    """Whether the whole box around `inner` lies within the box around `outer`."""
    reach = outer.radius - inner.radius
    return abs(inner.x - outer.x) < reach and abs(inner.y - outer.y) < reach


def is_touching(a: SceneObject, b: SceneObject) -> bool:
    """Whether two objects on one line or one column meet edge to edge."""
    if a.y == b.y and a.x != b.x:
        left, right = (a, b) if a.x < b.x else (b, a)
        return right.x - left.x <= contact_distance(left.shape, left.radius, right.shape, right.radius, "x")
    if a.x == b.x and a.y != b.y:
        top, low = (a, b) if a.y < b.y else (b, a)
        return low.y - top.y <= contact_distance(top.shape, top.radius, low.shape, low.radius, "y")
    return False


def direction(a: SceneObject, b: SceneObject) -> str | None:
    """Where `a` lies as seen from `b`: one of the four directions, or None when it lies between two of them."""
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dx) >= CLEAR * abs(dy) and dx:
        return "left of" if dx > 0 else "right of"
    if abs(dy) >= CLEAR * abs(dx) and dy:
        return "above" if dy > 0 else "below"
    return None


def pair_relations(a: SceneObject, b: SceneObject) -> tuple[str, ...]:
    """All relations in which `a` stands to `b`."""
    if is_inside(a, b):
        return ("inside",)
    if is_inside(b, a):
        return ("around",)
    towards = direction(a, b)
    names = () if towards is None else (towards,)
    return (*names, "touching") if is_touching(a, b) else names


def relations(scene: Scene) -> tuple[Relation, ...]:
    """All relations that hold in a scene, each followed by its inverse."""
    held = []
    for (subject, a), (other, b) in combinations(enumerate(scene.objects), 2):
        for name in pair_relations(a, b):
            held.append(Relation(subject, name, other))
            held.append(Relation(other, INVERSE[name], subject))
    return tuple(held)


def position(item: SceneObject) -> str:
    """The ninth of the picture in which an object's centre lies."""
    column = 0 if item.x < CENTRE_LOW else 2 if item.x > CENTRE_HIGH else 1
    row = 0 if item.y < CENTRE_LOW else 2 if item.y > CENTRE_HIGH else 1
    return POSITIONS[3 * row + column]
