"""Houses as arrays: distances, shortest paths and angles against the graph itself and against plain formulas."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import torch

from mmkd_cli.data.connectivity import read_house
from mmkd_cli.data.walks import Houses, Seen, Views, angles_of, view_of
from mmkd_cli.students.observing import Steps, angle_features
from tests.data.small_houses import write_houses
from tests.data.sources.reading import rows, source


class Said:
    """`core.contracts.Targets` of one signal [rows, ...]."""

    n_views = 0

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def gather(self, signals: list[str], at: np.ndarray) -> dict[str, torch.Tensor]:
        return dict.fromkeys(signals, self.values[torch.from_numpy(at)])


def table(files: dict[str, Path], split: str) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows(source("r2r", **files), "viewpoints", split))


def test_distances_and_paths_are_the_graphs(real_data: Path) -> None:
    place = real_data / "r2r"
    files = {"annotations": place / "R2R_val_unseen.json", "connectivity": place / "connectivity"}
    found = table(files, "val_unseen")
    houses = Houses.of([found])
    first = int((houses.scans == houses.scans[0]).sum())
    both = Houses.of([found.select(range(first)), found])  # the first house alone, then all of them
    assert len(both) == first + len(houses)
    rng = np.random.default_rng(0)
    for scan in ("2azQ1b91cZZ", "zsNo4HB9uLZ"):
        own = read_house(place / "connectivity", scan)
        row = np.flatnonzero(houses.scans == scan)
        assert houses.names[row].tolist() == list(own.viewpoints)
        a, b = rng.integers(len(row), size=(2, 200))
        np.testing.assert_allclose(houses.distance(row[a], row[b]), own.distances[a, b], atol=1e-9)
        np.testing.assert_allclose(both.distance(first + row[a], first + row[b]), own.distances[a, b], atol=1e-9)
        begin, within = both.within(first + int(row[7]))
        assert begin == first + row[0]
        np.testing.assert_allclose(within, own.distances, atol=1e-9)
        for start, goal in zip(a[:20], b[:20], strict=True):
            path = houses.shortest_path(int(row[start]), int(row[goal])) - row[0]
            assert own.wrong_move(path.tolist()) is None and (path[0], path[-1]) == (start, goal)
            length = sum(own.graph[p][q]["weight"] for p, q in pairwise(path))
            np.testing.assert_allclose(length, own.distances[start, goal], atol=1e-9)
        for node in rng.integers(len(row), size=20).tolist():
            for edge, other in enumerate(sorted(own.graph[node])):
                x, y, z = own.positions[other] - own.positions[node]
                assert houses.neighbours[row[node], edge] == row[other]
                heading, elevation = np.arctan2(x, y), np.arctan2(z, np.hypot(x, y))
                np.testing.assert_allclose(houses.heading[row[node], edge], heading, atol=1e-6)
                np.testing.assert_allclose(houses.elevation[row[node], edge], elevation, atol=1e-6)
                off = [
                    np.hypot(np.angle(np.exp(1j * (heading - h))), elevation - e) for h, e in map(angles_of, range(36))
                ]
                assert houses.view[row[node], edge] == int(np.argmin(off))


def test_a_view_is_the_nearest_heading() -> None:
    assert view_of(np.array([0.0, 0.27, 6.2, -0.5, 3.1])).tolist() == [12, 13, 12, 11 + 12, 18]
    assert angles_of(13) == (np.pi / 6, 0.0) and angles_of(35) == (11 * np.pi / 6, np.pi / 6)


def test_what_is_seen_from_a_corner(tmp_path: Path) -> None:
    files = write_houses(tmp_path, 6)
    found = table(files, "train")
    values = torch.randn(len(found), 36, 5)
    steps = Steps(Houses.of([found]), Views([Seen(Said(values), "views")], [0]), 8)
    node = torch.tensor([0, 5])  # the one looks east, the other down and north
    seen = steps.observe(node, torch.tensor([12 + 3, 0]), torch.device("cpu"))
    assert seen.leads.tolist() == [[1, 4, -1, -1], [1, 4, 6, 9]]  # from the corner: east, north
    assert seen.allowed.tolist() == [[True, True, False, False, True], [True] * 5]
    assert seen.turns[0, :2].tolist() == [15, 12] and seen.turns[1].tolist() == [18, 21, 15, 12]
    torch.testing.assert_close(seen.pictures, values[node])
    torch.testing.assert_close(seen.way_pictures[1], values[5, [18, 21, 15, 12]])
    quarter = np.pi / 2
    plain = [[np.sin(h), np.cos(h), np.sin(e), np.cos(e)] * 2 for h, e in ((0, 0), (-quarter, 0))]
    torch.testing.assert_close(seen.way_angles[0, :2], torch.tensor(plain).float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.facing[1], angle_features(torch.tensor(0.0), torch.tensor(-np.pi / 6), 8))
    torch.testing.assert_close(seen.angles[0, 15, :4], torch.tensor([0.0, 1.0, 0.0, 1.0]), atol=1e-6, rtol=0)


def test_views_of_several_splits_and_of_pictures(tmp_path: Path) -> None:
    a, b = torch.randn(3, 36, 4), torch.randn(2 * 36, 4)
    views = Views([Seen(Said(a), "views"), Seen(Said(b), "image_embedding", np.array([36, 0]))], [0, 3])
    found = views(np.array([4, 0, 3, 2]))
    torch.testing.assert_close(found, torch.stack([b[:36], a[0], b[36:], a[2]]))
    torch.testing.assert_close(views(np.array([1, 1])), a[[1, 1]])
