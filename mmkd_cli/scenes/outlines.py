"""Outlines of the shapes as polygons, and the distance at which two of them touch."""

from __future__ import annotations

from functools import cache

import numpy as np

from mmkd_cli.scenes.vocabulary import SHAPES

_ROWS = 129


def _arc(start: float, stop: float, n: int, radius: float = 1.0, cx: float = 0.0, cy: float = 0.0) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, n))
    return np.stack([cx + radius * np.cos(angle), cy + radius * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 16, -(y + 2.5) / 15], axis=1)


def _star() -> np.ndarray:
    tips, dents = _arc(-90, 270, 6)[:5], _arc(-54, 306, 6, radius=0.46)[:5]
    corners: np.ndarray = np.stack([tips, dents], axis=1).reshape(10, 2) + np.array([0.0, 0.08])
    return corners


def _cross() -> np.ndarray:
    a = 0.4
    corner = np.array([(-a, -1), (a, -1), (a, -a)], dtype=np.float64)
    turns = [np.array([(c, s), (-s, c)]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([corner @ turn for turn in turns])


_OUTLINES: dict[str, np.ndarray] = {
    "circle": _arc(0, 360, 65, radius=0.98)[:64],
    "square": np.array([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]),
    "triangle": np.array([(0.0, -0.98), (0.98, 0.8), (-0.98, 0.8)]),
    "star": _star(),
    "diamond": np.array([(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]),
    "cross": _cross(),
    "heart": _heart(),
    "moon": np.concatenate([_arc(58, 302, 40, cx=0.2), _arc(-81, -279, 30, radius=0.86, cx=0.6)]),
}
assert tuple(_OUTLINES) == SHAPES


def outline(shape: str) -> np.ndarray:
    """Corners [n, 2] (x right, y down) of a shape of radius 1 around its centre; all lie within [-1, 1]."""
    return _OUTLINES[shape]


def signed_distance(polygon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance of points to a polygon's edge, positive inside. polygon [n, 2], x [w], y [h] -> [h, w]."""
    px, py = np.meshgrid(x, y)
    nearest = np.full(px.shape, np.inf)
    inside = np.zeros(px.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        dx, dy = bx - ax, by - ay
        along = np.clip(((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        nearest = np.minimum(nearest, (px - ax - along * dx) ** 2 + (py - ay - along * dy) ** 2)
        if dy != 0:
            inside ^= ((ay > py) != (by > py)) & (px < ax + (py - ay) * dx / dy)
    distance = np.sqrt(nearest)
    return np.where(inside, distance, -distance)


@cache
def _reach(shape: str, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """How far a shape reaches right, left, down or up on each line across: (lines [rows], reach [rows])."""
    across, along = (1, 0) if direction in ("right", "left") else (0, 1)
    sign = 1.0 if direction in ("right", "down") else -1.0
    lines = np.linspace(-1.0, 1.0, _ROWS)
    reach = np.full(_ROWS, -np.inf)
    polygon = outline(shape)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        low, high = sorted((a[across], b[across]))
        hit = (lines >= low) & (lines <= high)
        span = b[across] - a[across]
        if span == 0:
            reach[hit] = np.maximum(reach[hit], max(sign * a[along], sign * b[along]))
        else:
            at = a[along] + (lines[hit] - a[across]) * (b[along] - a[along]) / span
            reach[hit] = np.maximum(reach[hit], sign * at)
    return lines, reach


@cache
def contact_distance(first: str, first_radius: int, second: str, second_radius: int, axis: str) -> int:
    """Whole units between two centres on one line ("x": first on the left, "y": first on top) at which they touch.

    Rounded down, so that the shapes meet within less than a unit and never miss each other.
    """
    out, back = ("right", "left") if axis == "x" else ("down", "up")
    lines, first_reach = _reach(first, out)
    second_lines, second_reach = _reach(second, back)
    first_reach = first_reach * first_radius
    at = lines * first_radius
    # Lines on which the second shape has nothing count as far behind its centre, and drop out of `met`.
    facing = np.interp(at, second_lines * second_radius, np.nan_to_num(second_reach, neginf=-9.0) * second_radius)
    met = (np.abs(at) <= second_radius) & np.isfinite(first_reach) & (facing > -2.0 * second_radius)
    return int(np.floor((first_reach + facing)[met].max() + 1e-9))
