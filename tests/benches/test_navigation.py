"""R2R and RxR: on the real graphs, on a small house of our own, and the rules of each measure."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from mmkd_cli.benches.runner import open_bench
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.connectivity import read_house
from mmkd_cli.metrics.navigation import cls, dtw, navigation_scores, ndtw
from mmkd_cli.reports.page import render
from tests.benches.text_bench_files import r2r, rxr, write


def run(bench: str, keys: dict[str, Any], predictions: Path, **more: Any) -> Scores:
    return open_bench({"name": bench, "bootstrap": 50, **keys, **more}).run(BenchInput(predictions=predictions))


# ------------------------------------------------------------------------------------------------ the real graphs
@pytest.fixture(scope="module")
def real(real_data: Path) -> Path:
    return real_data / "r2r"


def walks(real: Path, tmp_path: Path, agent: Any) -> tuple[dict[str, Any], Path]:
    """Trajectories of an agent that is told the graph and the path."""
    keys = {"annotations": str(real / "R2R_val_unseen.json"), "connectivity": str(real / "connectivity")}
    houses: dict[str, Any] = {}
    rows = []
    for row in json.loads(Path(keys["annotations"]).read_text()):
        house = houses.setdefault(row["scan"], read_house(Path(keys["connectivity"]), row["scan"]))
        steps = [[name, 0.0, 0.0] for name in agent(house, row["path"])]
        rows += [{"instr_id": f"{row['path_id']}_{k}", "trajectory": steps} for k in range(len(row["instructions"]))]
    write(tmp_path / "walks.json", rows[::-1])
    return keys, tmp_path / "walks.json"


def test_the_shortest_path_agent_reaches_every_goal(real: Path, tmp_path: Path) -> None:
    def shortest(house: Any, path: list[str]) -> list[str]:
        nodes = house.shortest_path(house.index[path[0]], house.index[path[-1]])
        return [house.viewpoints[node] for node in nodes]

    found = run("r2r", *walks(real, tmp_path, shortest))
    assert found.metrics["NE"] == 0 and found.metrics["SR"] == found.metrics["OSR"] == 100
    assert found.metrics["SPL"] == pytest.approx(100) and round(found.metrics["TL"], 2) == 9.48
    assert found.counts == {"items": 2349, "skipped": 0, "paths": 783, "houses": 11} and found.official


def test_the_agent_that_walks_the_instructions_path(real: Path, tmp_path: Path) -> None:
    found = run("r2r", *walks(real, tmp_path, lambda house, path: [path[0], *path]))
    assert round(found.metrics["TL"], 2) == 9.50 and found.metrics["nDTW"] == found.metrics["CLS"] == 100


def test_distances_are_those_of_networkx(real: Path) -> None:
    house = read_house(real / "connectivity", "2azQ1b91cZZ")
    again = nx.floyd_warshall_numpy(house.graph)
    np.testing.assert_allclose(house.distances, again, atol=1e-9)
    a, b = next(iter(house.graph.edges))
    assert house.graph[a][b]["weight"] == pytest.approx(np.linalg.norm(house.positions[a] - house.positions[b]))


# ------------------------------------------------------------------------------------------------ measures
LINE = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
"""Six nodes a metre apart."""


def test_success_is_nearer_than_three_metres_strictly() -> None:
    at_three = navigation_scores(LINE, [0, 1, 2], [0, 1, 2, 3, 4, 5])
    assert at_three["NE"] == 3.0 and at_three["SR"] == at_three["OSR"] == at_three["SPL"] == 0
    passed_by = navigation_scores(LINE, [0, 1, 2, 3, 2, 1, 0], [0, 1, 2, 3])
    assert passed_by["OSR"] == 1 and passed_by["SR"] == 0 and passed_by["TL"] == 6.0
    detour = navigation_scores(LINE, [0, 1, 0, 1, 2, 3], [0, 1, 2, 3])
    assert detour["SPL"] == 3 / 5 and detour["SR"] == 1


def test_the_example_of_rxr() -> None:
    """README of the RxR repository: DTW 1.5461700564 over five nodes."""
    distances = np.array([[0.0, 1.5461700564], [1.5461700564, 0.0]])
    assert dtw(distances, [1, 0], [0] * 5) == pytest.approx(1.5461700564)
    assert ndtw(distances, [1, 0], [0] * 5) == pytest.approx(0.9020566069, abs=1e-9)


def slow_dtw(distances: Any, walked: list[int], reference: list[int]) -> float:
    """By recursion over both ends."""
    if not walked and not reference:
        return 0.0
    if not walked or not reference:
        return float("inf")
    ways = ((walked[:-1], reference[:-1]), (walked[:-1], reference), (walked, reference[:-1]))
    return float(distances[walked[-1], reference[-1]]) + min(slow_dtw(distances, *way) for way in ways)


def test_dtw_is_the_least_alignment() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        walked, reference = (rng.integers(6, size=rng.integers(1, 6)).tolist() for _ in range(2))
        assert dtw(LINE, walked, reference) == pytest.approx(slow_dtw(LINE, walked, reference))


def test_staying_counts_once_and_a_long_walk_costs_cls() -> None:
    assert ndtw(LINE, [0, 0, 1, 1, 1, 2], [0, 1, 2]) == 1.0
    assert ndtw(LINE, [1, 2], [0, 1, 2]) == pytest.approx(np.exp(-1 / 9))
    coverage = (1 + 1 + np.exp(-1 / 3)) / 3
    assert cls(LINE, [0, 1], [0, 1, 2]) == pytest.approx(coverage * 2 * coverage / (2 * coverage + 2 * coverage - 1))
    assert cls(LINE, [2, 2], [2]) == 1.0


# ------------------------------------------------------------------------------------------------ files
def test_by_house_with_maps(tmp_path: Path) -> None:
    keys, predictions = r2r(tmp_path)
    found = run("r2r", keys, predictions)
    assert found.metrics["SR"] == pytest.approx(50) and set(found.by) == {"scan: A"} and found.official is False
    lines = list(found.items)
    assert lines[0]["id"] == "7_0" and lines[0]["path"] == ["a0", "a1", "a2", "a3"]
    page = render("r2r", found.page)
    assert page.count("<svg") == 6 and "walk &lt;b&gt; 0" in page


def test_rxr_by_language_packed_or_not(tmp_path: Path) -> None:
    keys, predictions = rxr(tmp_path)
    found = run("rxr", keys, predictions)
    assert list(found.by) == ["language: en-IN", "language: hi-IN"] and found.by["language: hi-IN"]["items"] == 3
    packed = tmp_path / "guide.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(keys["annotations"]).read_bytes()))
    assert run("rxr", {**keys, "annotations": str(packed)}, predictions).metrics == found.metrics
    packed.write_bytes(gzip.compress(b"{}")[:-3])
    with pytest.raises(UserError, match="is not packed JSON lines"):
        run("rxr", {**keys, "annotations": str(packed)}, predictions)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(), r"1 of 6 are missing \(the first: '7_0'"),
        (lambda rows: rows.append({**rows[0], "instr_id": "9_9"}), "are not in the annotations"),
        (lambda rows: rows.append(rows[0]), "stand there more than once"),
        (lambda rows: rows[0].update(trajectory=[["a0"], ["a2"]]), "no edge of scan A leads from 'a0' to 'a2'"),
        (lambda rows: rows[0].update(trajectory=[["a1"], ["a2"]]), "it starts at 'a1', its instruction at 'a0'"),
        (lambda rows: rows[0].update(trajectory=[["a0"], ["zz"]]), "'zz' is none of scan A's graph"),
        (lambda rows: rows[0].update(trajectory=[]), "a walk begins at its start"),
        (lambda rows: rows[0].update(trajectory=7), "field 'trajectory': a list is needed"),
    ],
)
def test_a_wrong_result_file_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    keys, predictions = r2r(tmp_path)
    rows = json.loads(predictions.read_text())
    change(rows)
    write(predictions, rows)
    with pytest.raises(UserError, match=said):
        run("r2r", keys, predictions)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[0].pop("pose"), "row 0: field 'pose' is missing"),
        (lambda rows: rows[0].update(pose=[1, 2]), "16 numbers are needed"),
        (lambda rows: rows[1]["unobstructed"].pop(), "for each of 5 rows"),
        (lambda rows: rows[0]["unobstructed"].__setitem__(3, True), "row 0 reaches row 3, which does not reach it"),
    ],
)
def test_a_wrong_graph_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    keys, predictions = r2r(tmp_path)
    graph = Path(keys["connectivity"]) / "A_connectivity.json"
    rows = json.loads(graph.read_text())
    change(rows)
    write(graph, rows)
    with pytest.raises(UserError, match=said):
        run("r2r", keys, predictions)


def test_what_is_not_named_or_not_there(tmp_path: Path) -> None:
    keys, predictions = r2r(tmp_path)
    with pytest.raises(UserError, match="give --connectivity"):
        run("r2r", {"annotations": keys["annotations"]}, predictions)
    with pytest.raises(UserError, match=r"has no A_connectivity\.json"):
        run("r2r", {**keys, "connectivity": str(tmp_path)}, predictions)
    rows = json.loads(Path(keys["annotations"]).read_text())
    write(tmp_path / "test.json", [{**row, "path": row["path"][:1]} for row in rows])
    with pytest.raises(UserError, match="goals are not published"):
        run("r2r", {**keys, "annotations": str(tmp_path / "test.json")}, predictions)
