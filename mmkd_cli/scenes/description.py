"""What a scene is: its objects, its ground, and where it stands in the splits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object by its canonical words; centre and radius in units of a 64th of the picture's side, y downwards."""

    shape: str
    colour: str
    size: str
    fill: str
    x: int
    y: int
    radius: int


@dataclass(frozen=True, slots=True)
class Ground:
    """What lies behind the objects."""

    colour: str
    texture: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture's description.

    `objects` are ordered by prominence: the largest first, of equal ones the leftmost, then the topmost; they are
    drawn in this order. `held_out` names the kinds of combination in it that no training scene has ("colour-shape",
    "relation"); empty in train, val and the seen half of test.
    """

    seed: int
    split: str
    index: int
    objects: tuple[SceneObject, ...]
    ground: Ground
    held_out: tuple[str, ...]

    @property
    def combination(self) -> str:
        """`seen` or `held_out`."""
        return "held_out" if self.held_out else "seen"
