"""Training rows of walks: what was said, and the way that was meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Position, Targets, Tokenize, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.walks import Houses, Seen, Views, view_of
from mmkd_cli.tasks.written_feed import table_of, usable_rows
from mmkd_cli.training.randomness import generator

LEAST_MOVES, MOST_MOVES, TRIES = 4, 6, 200
"""Of paths that are drawn, and how often one is drawn anew before it is given up."""

COLUMNS = ("instruction", "language", "scan", "path", "heading")


@dataclass
class InstructedWalks:
    """Instructions of a split (`core.contracts.Feed`). table: `instructions` in Arrow format; table_rows [rows].

    routes int64 [rows, T], what is learnt, and paths [rows, P], what was meant: viewpoints from the start to the goal,
    -1 behind it. view [rows]: what one looks at first.
    """

    name: str
    weight: float
    table: Any
    table_rows: np.ndarray
    routes: np.ndarray
    paths: np.ndarray
    view: np.ndarray
    tokenize: Tokenize
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.table_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids, attention_mask int64 [B, L], route int64 [B, T], path int64 [B, P], view, goal int64 [B]."""
        said = self.table[self.table_rows[rows].tolist()].column("instruction").to_pylist()
        route = self.routes[rows]
        goal = route[np.arange(len(rows)), (route >= 0).sum(1) - 1]
        return {**self.tokenize(said), "route": torch.from_numpy(route), "path": torch.from_numpy(self.paths[rows]),
                "view": torch.from_numpy(self.view[rows]), "goal": torch.from_numpy(goal)}  # fmt: skip


@dataclass
class SampledWalks:
    """Shortest paths of four to six moves, as Room-to-Room's are, without instructions (`core.contracts.Feed`). Each
    row's is drawn by itself. known: the first rows of `houses`, those of training."""

    name: str
    weight: float
    houses: Houses
    known: int
    rows: int
    seed: int

    stream: str = "augmented"

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """route int64 [B, 7], view, goal int64 [B]."""
        route = torch.full((len(rows), MOST_MOVES + 1), -1)
        view = torch.empty(len(rows), dtype=torch.int64)
        for place, row in enumerate(rows.tolist()):
            draws = generator(self.seed, "path", row)
            path = next((one for _ in range(TRIES) if (one := self._drawn(draws))), None)
            if path is None:
                raise UserError(
                    f"the training houses have next to no path of {LEAST_MOVES} moves: leave task.speaker out"
                )
            route[place, : len(path)] = torch.tensor(path)
            view[place] = int(view_of(draws.random() * 2 * np.pi))
        goal = route[torch.arange(len(rows)), (route >= 0).sum(1) - 1]
        return {"route": route, "view": view, "goal": goal}

    def _drawn(self, draws: np.random.Generator) -> list[int]:
        """A path, or nothing where the viewpoints drawn are too near, too far, or not joined."""
        start = int(draws.integers(self.known))
        same = np.flatnonzero(self.houses.house[: self.known] == self.houses.house[start])
        goal = int(same[draws.integers(len(same))])
        if not np.isfinite(self.houses.distance(np.array(start), np.array(goal))):
            return []
        path = self.houses.shortest_path(start, goal)
        return path if LEAST_MOVES <= len(path) - 1 <= MOST_MOVES else []


@dataclass(frozen=True)
class Place:
    """A split of a data set whose instructions are walked. rows: of `instructions` that can be."""

    data: TrainingData
    split: str
    table: Any
    rows: np.ndarray

    @classmethod
    def of(cls, data: TrainingData, split: str, language: str) -> Place:
        """Instructions with a goal, whose language begins so; UserError where there is none."""
        table = table_of(data, split, "instructions", COLUMNS)
        found = table[:]
        goes = np.array([len(path) > 1 for path in found.column("path").to_pylist()], dtype=bool)
        speaks = np.array([one.startswith(language) for one in found.column("language").to_pylist()], dtype=bool)
        usable = usable_rows(data, split, "instructions", None, len(table))
        rows = usable[(goes & speaks)[usable]]
        if not len(rows):
            said = f" in a language {language!r}" if language else ""
            raise UserError(f"data {data.name!r} has no instruction with a path to a goal{said} in {split!r}")
        return cls(data, split, table, rows)

    def seen(self, signal: str) -> Seen:
        """The views of the split's viewpoints; UserError where some were rejected: a walk may stand at any."""
        for table in ("images", "viewpoints"):
            if table in self.data.tables(self.split) and (bad := len(self.data.rejected(self.split, table))):
                where = f"{bad} rows of {table!r} of data {self.data.name!r}, {self.split!r},"
                raise UserError(f"{where} were rejected, and walks need each viewpoint's views: prepare the data anew")
        return seen_of(self.data.name, self.split, self.data.tables(self.split), self.data.targets(self.split), signal)

    def feed(self, houses: Houses, first: int, route: str, tokenize: Tokenize, name: str) -> InstructedWalks:
        """first: row of `houses` where the split's viewpoints begin. route: `shortest`, or `path`, which was meant."""
        found = self.table[self.rows.tolist()]
        last = first + len(self.data.tables(self.split)["viewpoints"])
        own = zip(houses.scans[first:last].tolist(), houses.names[first:last].tolist(), strict=True)
        row_of = {viewpoint: row for row, viewpoint in enumerate(own, first)}
        scans, meant = (found.column(name).to_pylist() for name in ("scan", "path"))
        paths = [[row_of[scan, one] for one in path] for scan, path in zip(scans, meant, strict=True)]
        if route == "shortest":
            known = {ends: houses.shortest_path(*ends) for ends in {(path[0], path[-1]) for path in paths}}
            ways = _padded([known[path[0], path[-1]] for path in paths])
        else:
            ways = _padded([[one for k, one in enumerate(path) if not k or one != path[k - 1]] for path in paths])
        view = view_of(found.column("heading").to_numpy())
        return InstructedWalks(name, self.data.weight, self.table, self.rows, ways, _padded(paths), view, tokenize)


def _padded(paths: Sequence[Sequence[int]]) -> np.ndarray:
    """int64 [rows, longest], -1 behind each."""
    found = np.full((len(paths), max(map(len, paths))), -1, dtype=np.int64)
    for row, path in enumerate(paths):
        found[row, : len(path)] = path
    return found


def seen_of(name: str, split: str, tables: Any, targets: Targets | None, signal: str) -> Seen:
    """Where a split's views are; UserError where its teacher does not say them."""
    if targets is None:
        raise UserError(f"data {name!r} comes without views in {split!r}: name a cache that has them")
    if signal not in targets.specs:
        raise UserError(f"the teacher of data {name!r} gives no {signal!r}{nearest(signal, targets.specs)}")
    if targets.specs[signal].table == "viewpoints":
        return Seen(targets, signal)
    image_row = np.array(tables["viewpoints"].select_columns("image_row")[:]["image_row"])
    if (image_row < 0).any():
        raise UserError(f"data {name!r} were prepared without pictures of the viewpoints: prepare them with --images")
    return Seen(targets, signal, image_row)


def usual_signal(tables: Any) -> str:
    """Of prepared data with these tables."""
    return "image_embedding" if "images" in tables else "views"


def views_of(places: Sequence[Place], signal: str) -> tuple[Houses, Views, list[int]]:
    """Houses and views of all places side by side, and each one's first row."""
    tables = [place.data.tables(place.split)["viewpoints"] for place in places]
    first = np.cumsum([0, *map(len, tables[:-1])]).tolist()
    return Houses.of(tables), Views([place.seen(signal) for place in places], first), first
