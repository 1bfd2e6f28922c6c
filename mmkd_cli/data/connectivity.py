"""The navigation graphs of Matterport3D's houses, as the Matterport3D simulator's `connectivity` folder holds them.

A house is the list of one JSON file: a panorama (viewpoint) a row, with its pose and which others are in reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields

_POSE = 16


@dataclass(frozen=True)
class House:
    """Viewpoints [n] that are part of the graph; positions float64 [n, 3]: x, y, z in metres, z up."""

    scan: str
    viewpoints: tuple[str, ...]
    positions: NDArray[np.float64]
    graph: nx.Graph
    """Nodes 0..n-1; an edge's weight is the straight distance of its ends in metres."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Viewpoint -> node."""
        return {name: node for node, name in enumerate(self.viewpoints)}

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Along edges, metres [n, n]; infinite where no path leads."""
        found = np.full((len(self.viewpoints),) * 2, np.inf)
        for node, lengths in nx.all_pairs_dijkstra_path_length(self.graph):
            found[node, list(lengths)] = list(lengths.values())
        return found

    def shortest_path(self, start: int, goal: int) -> list[int]:
        """Nodes from start to goal, both among them. Raises networkx.NetworkXNoPath."""
        path: list[int] = nx.dijkstra_path(self.graph, start, goal)
        return path

    def wrong_move(self, nodes: list[int]) -> int | None:
        """The place of the first move that no edge allows (staying is allowed), or None."""
        moves = enumerate(pairwise(nodes))
        return next((place for place, (a, b) in moves if a != b and not self.graph.has_edge(a, b)), None)


def graph_file(folder: Path, scan: str) -> Path:
    """Where a scan's graph is; UserError where its name leads out of the folder."""
    return folder / f"{fields.inner_path(scan, f'scan {scan!r}')}_connectivity.json"


def read_house(folder: Path, scan: str) -> House:
    """UserError names the file, the row and the field: one that is not there, misshapen, or has a one-way edge."""
    path = graph_file(folder, scan)
    if not path.is_file():
        raise UserError(f"--connectivity {folder} has no {path.name}: name the folder with every scan's graph")
    rows = fields.typed(paths.read_json(path), list, f"file {path}")
    read = [_row(row, len(rows), f"file {path}, row {number}") for number, row in enumerate(rows)]
    kept = [place for place, (_, _, included, _) in enumerate(read) if included]
    graph, positions = nx.Graph(), np.array([read[place][1] for place in kept]).reshape(-1, 3)
    graph.add_nodes_from(range(len(kept)))
    for node, place in enumerate(kept):
        for other, there in enumerate(kept):
            if read[place][3][there] and place != there:
                if not read[there][3][place]:
                    raise UserError(f"file {path}: row {place} reaches row {there}, which does not reach it: mend it")
                graph.add_edge(node, other, weight=float(np.linalg.norm(positions[node] - positions[other])))
    return House(scan, tuple(read[place][0] for place in kept), positions, graph)


def _row(value: Any, rows: int, where: str) -> tuple[str, list[float], bool, list[bool]]:
    """Viewpoint, position, whether it is part of the graph, and what is in reach of it."""
    row = fields.typed(value, dict, where)
    pose, reach = (fields.field(row, name, list, where) for name in ("pose", "unobstructed"))
    if len(pose) != _POSE or not all(isinstance(number, (int, float)) for number in pose):
        raise UserError(f"{where}, field 'pose': {_POSE} numbers are needed")
    if len(reach) != rows or not all(isinstance(flag, bool) for flag in reach):
        raise UserError(f"{where}, field 'unobstructed': true or false for each of {rows} rows is needed")
    included = fields.field(row, "included", bool, where)
    return fields.field(row, "image_id", str, where), [float(pose[k]) for k in (3, 7, 11)], included, reach
