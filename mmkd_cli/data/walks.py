"""Houses as arrays that a batch of walks reads at once, and the views that are seen on the way.

Angles as the Matterport3D simulator has them: heading 0 is +y and grows clockwise, elevation grows upwards; a viewpoint
is seen in 36 views, 12 * level + heading, 30 degrees apart. N viewpoints of all houses side by side, at most K edges of
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.core.contracts import Targets
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.signals import dense

if TYPE_CHECKING:
    from torch import Tensor

HEADINGS, LEVELS = 12, 3
VIEWS = HEADINGS * LEVELS
STEP = 2 * np.pi / HEADINGS
"""Radians between headings, and between levels of elevation."""


@dataclass(frozen=True)
class Houses:
    """neighbours int64 [N, K], -1 where there are fewer; of each edge its metres (infinite where there is none), and
    from its beginning heading and elevation in radians float32 [N, K] and the nearest of the 36 views int64 [N, K].

    names, scans [N]. Distances along edges are kept house by house.
    """

    house: NDArray[np.int64]
    """Which house a viewpoint is in [N]: those of several tables are several."""
    scans: NDArray[np.str_]
    names: NDArray[np.str_]
    neighbours: NDArray[np.int64]
    metres: NDArray[np.float64]
    heading: NDArray[np.float32]
    elevation: NDArray[np.float32]
    view: NDArray[np.int64]
    _flat: NDArray[np.float64]
    """Distances [n, n] of each house, one behind another."""
    _row: NDArray[np.int64]
    """Place in `_flat` where a viewpoint's distances begin [N]."""
    _node: NDArray[np.int64]
    """Place of a viewpoint in its house [N]."""

    @classmethod
    def of(cls, tables: Sequence[Any]) -> Houses:
        """Of `viewpoints` tables; rows of a later table follow those of the earlier ones."""
        columns: dict[str, list[Any]] = {name: [] for name in ("scan", "viewpoint", "position", "neighbours")}
        bounds = [0]
        for table in tables:
            first, found = bounds[-1], table.select_columns([*columns])[:]
            for name in ("scan", "viewpoint", "position"):
                columns[name] += found[name]
            columns["neighbours"] += [[first + row for row in rows] for rows in found["neighbours"]]
            bounds.append(first + len(found["scan"]))
        scans, position = np.array(columns["scan"], dtype=str), np.array(columns["position"]).reshape(-1, 3)
        count, most = len(scans), max((len(rows) for rows in columns["neighbours"]), default=0)
        neighbours = np.full((count, max(most, 1)), -1, dtype=np.int64)
        for row, reached in enumerate(columns["neighbours"]):
            neighbours[row, : len(reached)] = reached
        there = neighbours >= 0
        x, y, z = np.moveaxis(position[neighbours] - position[:, None], -1, 0)
        metres = np.where(there, np.sqrt(x**2 + y**2 + z**2), np.inf)
        heading, elevation = np.arctan2(x, y) * there, np.arctan2(z, np.hypot(x, y)) * there
        level = np.clip(np.rint(elevation / STEP), -1, 1).astype(np.int64) + 1
        view = HEADINGS * level + np.rint(heading / STEP).astype(np.int64) % HEADINGS
        starts = _starts(scans, bounds)
        flat, row, node = _distances(starts, neighbours, metres)
        house = np.searchsorted(starts, np.arange(count), side="right")
        names, angles = np.array(columns["viewpoint"], dtype=str), (heading, elevation)
        return cls(house, scans, names, neighbours, metres, *(one.astype(np.float32) for one in angles), view, flat,
                   row, node)  # fmt: skip

    def __len__(self) -> int:
        return len(self.names)

    def distance(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        """Metres along edges from a to b of the same house, shapes that broadcast; infinite where no path leads."""
        return self._flat[self._row[a] + self._node[b]]

    def within(self, row: int) -> tuple[int, NDArray[np.float64]]:
        """The first row of a viewpoint's house, and its distances [n, n]."""
        first, n = row - int(self._node[row]), int((self.house == self.house[row]).sum())
        begin = int(self._row[first])
        return first, self._flat[begin : begin + n * n].reshape(n, n)

    def next_on_way(self, node: NDArray[np.int64], goal: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which edge [B] begins a shortest path to the goal; the first of several. node, goal [B]."""
        reached = self.neighbours[node]
        whole = self.metres[node] + self.distance(np.where(reached < 0, node[:, None], reached), goal[:, None])
        return np.argmin(whole, axis=1)

    def shortest_path(self, start: int, goal: int) -> list[int]:
        """Viewpoints from start to goal, which a path joins."""
        path = [start]
        while path[-1] != goal:
            here = np.array(path[-1:])
            path.append(int(self.neighbours[path[-1], self.next_on_way(here, np.array([goal]))[0]]))
            if len(path) > len(self):
                where = f"scan {self.scans[start]!r}, viewpoint {self.names[start]!r}"
                raise UserError(f"{where}: no path leads on to its goal: two viewpoints are at one place")
        return path


def view_of(heading: NDArray[np.float64]) -> NDArray[np.int64]:
    """The level view that is nearest to a heading."""
    return HEADINGS + np.rint(heading / STEP).astype(np.int64) % HEADINGS


def angles_of(view: int) -> tuple[float, float]:
    """Heading and elevation of a view."""
    return view % HEADINGS * STEP, (view // HEADINGS - 1) * STEP


@dataclass(frozen=True)
class Seen:
    """Where a split's views are. signal: of `viewpoints`, all 36; or of `images`, one each, from `image_row` on."""

    targets: Targets
    signal: str
    image_row: NDArray[np.int64] | None = None

    def __call__(self, rows: NDArray[np.int64]) -> Tensor:
        """[n, 36, D] of rows of the split's `viewpoints`."""
        if self.image_row is None:
            return dense(self.targets.gather([self.signal], rows)[self.signal])
        pictures = (self.image_row[rows][:, None] + np.arange(VIEWS)).reshape(-1)
        return dense(self.targets.gather([self.signal], pictures)[self.signal]).view(len(rows), VIEWS, -1)


@dataclass(frozen=True)
class Views:
    """Views of all splits' viewpoints side by side, as `Houses` has them. first [parts]: each part's first row."""

    parts: Sequence[Seen]
    first: Sequence[int]

    def __call__(self, rows: NDArray[np.int64]) -> Tensor:
        """float32 [n, 36, D]."""
        import torch

        part = np.searchsorted(self.first, rows, side="right") - 1
        own = np.unique(part)
        if len(own) == 1:
            return self.parts[own[0]](rows - self.first[own[0]]).float()
        places = [np.flatnonzero(part == one) for one in own]
        found = torch.cat([self.parts[one](rows[at] - self.first[one]) for one, at in zip(own, places, strict=True)])
        return found[torch.from_numpy(np.argsort(np.concatenate(places)))].float()


def _starts(scans: NDArray[np.str_], bounds: Sequence[int]) -> list[int]:
    """First rows of the houses, and the end: one house's rows stand together in a table."""
    changes = np.flatnonzero(scans[1:] != scans[:-1]) + 1
    return sorted({*changes.tolist(), *bounds})


def _distances(
    starts: Sequence[int], neighbours: NDArray[np.int64], metres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """`_flat`, `_row`, `_node`: Floyd's and Warshall's algorithm in each house."""
    flat: list[NDArray[np.float64]] = []
    row, node = (np.zeros(len(neighbours), dtype=np.int64) for _ in range(2))
    size = 0
    for first, last in pairwise(starts):
        n = last - first
        found = np.full((n, n), np.inf)
        np.fill_diagonal(found, 0.0)
        begin, edge = np.nonzero(neighbours[first:last] >= 0)
        found[begin, neighbours[first + begin, edge] - first] = metres[first + begin, edge]
        for middle in range(n):
            np.minimum(found, found[:, middle, None] + found[middle], out=found)
        flat.append(found.reshape(-1))
        node[first:last] = np.arange(n)
        row[first:last] = size + np.arange(n) * n
        size += n * n
    return np.concatenate(flat) if flat else np.zeros(0), row, node
