"""Houses: landmarks that tell ways apart, views that show them, files that the official readers take."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from mmkd_cli.data.connectivity import read_house
from mmkd_cli.scenes import Scene, draw, house_files
from mmkd_cli.scenes.houses import house, paths
from tests.data.sources.reading import rows, source


def test_a_house_is_whole_and_its_ways_can_be_told_apart() -> None:
    for index in range(8):
        own = house(1, "train", index)
        assert own.name == house(1, "train", index).name and (own.doors == house(1, "train", index).doors).all()
        graph = nx.from_numpy_array(own.doors * np.linalg.norm(own.positions[:, None] - own.positions, axis=-1))
        assert nx.is_connected(graph) and (own.doors == own.doors.T).all() and not own.doors.diagonal().any()
        np.testing.assert_allclose(own.distances, nx.floyd_warshall_numpy(graph), atol=1e-9)
        assert min(data["weight"] for *_, data in graph.edges(data=True)) > 2.5
        for room in range(len(own.landmarks)):
            seen = [own.landmarks[room], *(own.landmarks[other] for other in np.flatnonzero(own.doors[room]))]
            assert len({*seen}) == len(seen)
    assert house(1, "train", 0).landmarks != house(1, "val", 0).landmarks


def test_a_view_shows_what_lies_in_its_direction() -> None:
    own = house(0, "val", 0)
    empty = draw(Scene(0, "train", 0, (), own.ground, ()))
    for room in range(len(own.landmarks)):
        shown = {number for number in range(36) if (own.view(room, number) != empty).any()}
        nearest = set()
        for other in np.flatnonzero(own.doors[room]).tolist():
            heading, up = own.direction(room, other)
            views = [(k % 12 * math.pi / 6, (k // 12 - 1) * math.pi / 6) for k in range(36)]
            off = [abs(np.exp(1j * heading) - np.exp(1j * h)) + abs(up - e) for h, e in views]
            nearest.add(off.index(min(off)))
        assert shown == nearest


def test_an_instruction_names_the_landmarks_in_their_order() -> None:
    own, found = house(2, "train", 3), [*paths(2, "train", 3, 40)]
    assert len({(path.rooms[0], path.rooms[-1]) for path in found}) == 40
    assert [*paths(2, "train", 3, 10, first=30)] == found[30:]
    for path in found:
        assert 4 <= len(path.rooms) <= 6 and all(own.doors[a, b] for a, b in pairwise(path.rooms))
        for text in path.instructions:
            place = 0
            for colour, shape in (own.landmarks[room] for room in path.rooms[1:]):
                place = text.index(f"{colour} {shape}", place) + 1
    with pytest.raises(ValueError, match="ask for fewer of each house"):
        [*paths(2, "train", 3, 400)]


def test_the_files_are_read_as_the_official_ones(tmp_path: Path) -> None:
    house_files.write(tmp_path, houses=2, unseen=1, each=5, held=3, size=16)
    made = source("r2r", annotations=tmp_path, connectivity=tmp_path / "connectivity", images=tmp_path / "views")
    assert not [*made.missing()]
    counts = {"train": (30, 40), "val_seen": (9, 20), "val_unseen": (9, 20)}
    for split, (said, seen) in counts.items():
        found = rows(made, "instructions", split)
        assert len(found) == said and not any("problem" in row for row in found)
        assert len(rows(made, "viewpoints", split)) == seen and len(rows(made, "images", split)) == 36 * seen
    assert not {row["scan"] for row in rows(made, "instructions", "train")} & {
        row["scan"] for row in rows(made, "instructions", "val_unseen")
    }
    one = json.loads((tmp_path / "R2R_val_seen.json").read_text())[0]
    there = read_house(tmp_path / "connectivity", one["scan"])
    nodes = [there.index[name] for name in one["path"]]
    assert there.distances[nodes[0], nodes[-1]] == pytest.approx(one["distance"])
