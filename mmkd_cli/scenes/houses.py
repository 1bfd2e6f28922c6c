"""Houses of the built-in world: rooms on an uneven grid, a landmark in each, and instructions that name landmarks.

From a room one sees, in the direction of each room that it leads to, that room's landmark. Landmarks that are seen from
one room differ, so that an instruction leads one way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmkd_cli.scenes.description import Ground, Scene, SceneObject
from mmkd_cli.scenes.drawing import draw
from mmkd_cli.scenes.splits import SEEN_SHAPES
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import COLOURS, GROUND_COLOURS, RADII, TEXTURES, UNITS

COLUMNS, ROWS = 5, 4
SPACING_M, JITTER_CM, EYES_M = 3.6, 50, 1.5
"""Rooms are so far apart that the next one is not within the three metres of a success."""

DOORS_PERCENT = 65
"""Of neighbouring rooms that no path needs to join, so many are."""

MOVES = (3, 5)
"""Fewest and most of a path."""

HEADINGS, FIELD_OF_VIEW = 12, math.radians(60)
_HOUSE, _PATHS = 900, 901
"""Purposes of the streams."""

_FIRST = ("go to the {}", "walk to the {}", "head for the {}", "start towards the {}")
_THEN = ("then to the {}", "go past it to the {}", "continue to the {}", "after that the {}", "move on to the {}")
_LAST = ("and stop at the {}", "then wait at the {}", "finally stop by the {}", "and end at the {}")

Landmark = tuple[str, str]
"""Colour and shape."""


@dataclass(frozen=True)
class House:
    """positions float64 [n, 3]: x, y, z in metres, z up. doors bool [n, n]. ground, size: of what is drawn."""

    name: str
    positions: np.ndarray
    doors: np.ndarray
    landmarks: tuple[Landmark, ...]
    ground: Ground

    def direction(self, room: int, other: int) -> tuple[float, float]:
        """Heading (0 is +y, clockwise) and elevation of one room from another, radians."""
        x, y, z = self.positions[other] - self.positions[room]
        return math.atan2(x, y), math.atan2(z, math.hypot(x, y))

    def view(self, room: int, number: int, size: int = UNITS) -> np.ndarray:
        """uint8 [size, size, 3]: one of 36 views, twelve headings at -30 degrees, at 0, at 30."""
        heading, elevation = number % HEADINGS * math.tau / HEADINGS, (number // HEADINGS - 1) * math.tau / HEADINGS
        objects = []
        for other in np.flatnonzero(self.doors[room]).tolist():
            to, up = self.direction(room, other)
            right, above = _wrapped(to - heading), up - elevation
            if abs(right) > math.tau / HEADINGS / 2 or abs(above) > math.tau / HEADINGS / 2:
                continue
            x, y = (round(UNITS / 2 * (1 + math.tan(off) / math.tan(FIELD_OF_VIEW / 2))) for off in (right, -above))
            colour, shape = self.landmarks[other]
            radius = RADII["medium"]
            x, y = (min(max(place, radius), UNITS - radius) for place in (x, y))
            objects.append(SceneObject(shape, colour, "medium", "solid", x, y, radius))
        return draw(Scene(0, "train", 0, tuple(objects), self.ground, ()), size)

    @cached_property
    def distances(self) -> np.ndarray:
        """Along doors, metres [n, n]."""
        straight = np.linalg.norm(self.positions[:, None] - self.positions, axis=-1)
        found = np.where(self.doors, straight, np.inf)
        np.fill_diagonal(found, 0.0)
        for middle in range(len(found)):
            np.minimum(found, found[:, middle, None] + found[middle], out=found)
        return found

    def shortest_path(self, start: int, goal: int) -> list[int]:
        """Rooms from start to goal."""
        path = [start]
        while path[-1] != goal:
            beside = np.flatnonzero(self.doors[path[-1]])
            over = self.distances[path[-1], beside] + self.distances[beside, goal]
            path.append(int(beside[int(np.argmin(over))]))
        return path


@dataclass(frozen=True)
class Path:
    """rooms from the start to the goal; heading at the start; three instructions."""

    rooms: tuple[int, ...]
    heading: float
    instructions: tuple[str, ...]


def house(seed: int, split: str, index: int) -> House:
    """House `index` of a split (train, val or test) under a seed."""
    stream = Stream(seed, split, index, _HOUSE)
    rooms = [(x, y) for y in range(ROWS) for x in range(COLUMNS)]
    positions = np.array([
        (SPACING_M * x + _jitter(stream), SPACING_M * y + _jitter(stream), EYES_M + _jitter(stream)) for x, y in rooms
    ])  # fmt: skip
    doors = np.zeros((len(rooms),) * 2, dtype=bool)
    group = list(range(len(rooms)))
    beside = [(a, b) for a, (x, y) in enumerate(rooms) for b, (u, v) in enumerate(rooms)
              if (u - x, v - y) in ((1, 0), (0, 1))]  # fmt: skip
    for place in range(len(beside) - 1, 0, -1):  # in a random order
        other = stream.below(place + 1)
        beside[place], beside[other] = beside[other], beside[place]
    for a, b in beside:
        if group[a] != group[b] or stream.percent(DOORS_PERCENT):
            doors[a, b] = doors[b, a] = True
            group = [group[a] if one == group[b] else one for one in group]
    landmarks: list[Landmark] = []
    for a, (x, y) in enumerate(rooms):
        near = {landmarks[b] for b, (u, v) in enumerate(rooms[:a]) if abs(u - x) + abs(v - y) <= 2}
        while (own := _landmark(stream)) in near:
            pass
        landmarks.append(own)
    ground = Ground(stream.choice(GROUND_COLOURS), stream.choice(TEXTURES))
    return House(f"{split}{seed}x{index:03d}", positions, doors, tuple(landmarks), ground)


def paths(seed: int, split: str, index: int, count: int, *, first: int = 0) -> Iterator[Path]:
    """Paths `first` to `first + count` of a house: shortest ones of three to five moves, each once.

    Raises ValueError where it has fewer.
    """
    own, stream = house(seed, split, index), Stream(seed, split, index, _PATHS)
    rooms = range(len(own.landmarks))
    every = [own.shortest_path(start, goal) for start in rooms for goal in rooms]
    left = [path for path in every if MOVES[0] <= len(path) - 1 <= MOVES[1]]
    if first + count > len(left):
        raise ValueError(f"house {own.name} has {len(left)} paths, not {first + count}: ask for fewer of each house")
    for number in range(first + count):
        path = left.pop(stream.below(len(left)))
        heading = stream.below(3600) / 3600 * math.tau
        said = tuple(_instruction(stream, [own.landmarks[room] for room in path[1:]]) for _ in range(3))
        if number >= first:
            yield Path(tuple(path), heading, said)


def _instruction(stream: Stream, landmarks: list[Landmark]) -> str:
    """The landmarks in their order."""
    parts = []
    for place, (colour, shape) in enumerate(landmarks):
        ways = _FIRST if not place else _LAST if place == len(landmarks) - 1 else _THEN
        parts.append(stream.choice(ways).format(f"{colour} {shape}"))
    return f"{', '.join(parts)}.".capitalize()


def _landmark(stream: Stream) -> Landmark:
    """One that training pictures show."""
    colour = stream.choice(COLOURS)
    return colour, stream.choice(SEEN_SHAPES[colour])


def _jitter(stream: Stream) -> float:
    """Metres."""
    return (stream.below(2 * JITTER_CM + 1) - JITTER_CM) / 100


def _wrapped(angle: float) -> float:
    """From -pi to pi."""
    return (angle + math.pi) % math.tau - math.pi
