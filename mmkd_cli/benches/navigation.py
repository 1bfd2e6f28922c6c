"""Room-to-Room and Room-across-Room: trajectories that were walked before, on the houses' graphs, with no simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import text_page
from mmkd_cli.benches.navigation_files import Walk, read_walks, with_goals
from mmkd_cli.benches.outcomes import clusters
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.connectivity import House, read_house
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.navigation_files import Instruction, read_r2r, read_rxr
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval
from mmkd_cli.metrics.navigation import METRES, navigation_scores
from mmkd_cli.reports.blocks import Block, Heading, Paragraph
from mmkd_cli.reports.plots import map_figure
from mmkd_cli.reports.quoted import quoted_rows


class NavigationConfig(Config):
    """Keys of the benches of walks."""

    name: str = key("", "the bench")
    annotations: str | None = key(None, "the instructions with their paths: the official file", source="[U]",
                                  identity=False)  # fmt: skip
    connectivity: str | None = key(None, "folder of SCAN_connectivity.json, the houses' graphs", source="[U]",
                                   identity=False)  # fmt: skip
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the walks shown", source="[U]", ge=0)
    shown: int = key(6, "maps of each sort on the page: failed and arrived", source="[U]", identity=False, ge=0)


class R2rConfig(NavigationConfig):
    name: str = key("r2r", "the bench")


class RxrConfig(NavigationConfig):
    name: str = key("rxr", "the bench")


class R2r:
    """`TL`, `NE`: metres; `SR`, `OSR`, `SPL`, `nDTW`, `SDTW`, `CLS`: percent (`core.contracts.Bench`).

    A walk that leaves its graph's edges, or starts elsewhere than its instruction, is refused (R2R's eval.py).
    """

    Config: ClassVar[type] = R2rConfig
    default_split: str = "val_unseen"
    needs_data: ClassVar[bool] = False
    matching: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = True
    written_by: ClassVar[str] = "r2r"
    tables: ClassVar[Sequence[str]] = ()
    read: ClassVar[Callable[[Path], list[Instruction]]] = staticmethod(read_r2r)
    id_field: ClassVar[str] = "instr_id"
    official_items: ClassVar[dict[str, int]] = {"val_seen": 1_020, "val_unseen": 2_349}

    def __init__(self, config: NavigationConfig) -> None:
        self.config = config
        named = Path(config.annotations or "").name
        self.default_split = next(
            (split for split in ("val_seen", "val_unseen", "train") if split in named), self.default_split
        )

    def files(self) -> dict[str, str]:
        named = {"annotations": self.config.annotations, "connectivity": self.config.connectivity}
        return {name: place for name, place in named.items() if place is not None}

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        """No model runs."""
        return len(self._read(given)[0]), 0.0

    def run(self, given: BenchInput) -> Scores:
        items, walks = self._read(given)
        nodes = [self._nodes(item, walk) for item, walk in zip(items, walks, strict=True)]
        each = [navigation_scores(self._house(item).distances, *own) for item, own in zip(items, nodes, strict=True)]
        table = {name: np.array([one[name] * _unit(name) for one in each]) for name in each[0]}
        paths = clusters([one.path_id for one in items])
        scores = Scores(
            metrics={name: float(values.mean()) for name, values in table.items()},
            counts={"items": len(items), "skipped": 0, "paths": len(set(paths.tolist())), "houses": len(self.houses)},
            by={
                f"{what}: {name}": {**{m: float(values[own].mean()) for m, values in table.items()},
                                    "items": float(own.sum())}
                for what, name, own in _groups(items)
            },
        )  # fmt: skip
        if given.metrics_only:
            return scores
        if self.config.bootstrap:
            drawn = bootstrap_means(
                np.stack([*table.values()], axis=1), paths, resamples=self.config.bootstrap, seed=self.config.seed
            )
            scores.intervals = {n: percentile_interval(drawn[:, k]) for k, n in enumerate(table)}
        scores.items = _lines(items, walks, table)
        arrived = table["SR"] > 0
        for title, chosen in (("Failed", ~arrived), ("Arrived", arrived)):
            scores.page += self._page(title, items, nodes, table, np.flatnonzero(chosen).tolist())
        scores.official = len(items) == self.official_items.get(self.default_split)
        if scores.official:
            scores.quoted = quoted_rows(self.config.name)
        return scores

    # ------------------------------------------------------------------------------------------ what is read
    @cached_property
    def houses(self) -> dict[str, House]:
        return {}

    def _house(self, item: Instruction) -> House:
        if item.scan not in self.houses:
            self.houses[item.scan] = read_house(Path(self.config.connectivity or "").expanduser(), item.scan)
        return self.houses[item.scan]

    def _read(self, given: BenchInput) -> tuple[list[Instruction], list[Walk]]:
        config = self.config
        if given.predictions is None:
            raise UserError(f"{config.name} scores walks: give --predictions FILE")
        for name in ("annotations", "connectivity"):
            if getattr(config, name) is None:
                raise UserError(f"{config.name} needs the {NEEDED[name]}: give --{name}")
        annotations = Path(str(config.annotations)).expanduser()
        items = with_goals(type(self).read(annotations), annotations)
        return items, read_walks(given.predictions, items, self.id_field)

    def _nodes(self, item: Instruction, walk: Walk) -> tuple[list[int], list[int]]:
        """Nodes that were walked, and those of the instruction's own path."""
        house = self._house(item)
        walked, reference = (self._known(house, names) for names in (walk.viewpoints, item.path))
        if walked[0] != reference[0]:
            raise UserError(f"{walk.where}: it starts at {walk.viewpoints[0]!r}, its instruction at {item.path[0]!r}")
        if (place := house.wrong_move(walked)) is not None:
            a, b = walk.viewpoints[place : place + 2]
            raise UserError(f"{walk.where}: no edge of scan {item.scan} leads from {a!r} to {b!r} (move {place + 1})")
        return walked, reference

    @staticmethod
    def _known(house: House, names: Sequence[str]) -> list[int]:
        if odd := next((name for name in names if name not in house.index), None):
            raise UserError(f"viewpoint {fields.listed([odd])} is none of scan {house.scan}'s graph")
        return [house.index[name] for name in names]

    def _page(
        self, title: str, items: Sequence[Instruction], nodes: Sequence[tuple[list[int], list[int]]],
        table: dict[str, NDArray[np.float64]], places: Sequence[int],
    ) -> list[Block]:  # fmt: skip
        """Maps of some walks, seen from above."""
        if not places:
            return []
        shown = text_page.drawn(places, self.config.shown, self.config.seed)
        blocks: list[Block] = [Heading(title), Paragraph(f"{len(shown)} of {len(places):,} such walks, at random.")]
        for place in shown:
            house, (walked, reference) = self._house(items[place]), nodes[place]
            said = f"{items[place].id}: NE {table['NE'][place]:.2f} m, nDTW {table['nDTW'][place]:.1f}"
            ways = {"the instruction's path": reference, "walked": walked}
            lines = {name: house.positions[way, :2] for name, way in ways.items()}
            edges = [house.positions[list(edge), :2] for edge in house.graph.edges]
            blocks += [Paragraph(items[place].text.strip()), map_figure(edges, lines, said)]
        return blocks


class Rxr(R2r):
    """Also by language. Its primary metric is nDTW."""

    Config = RxrConfig
    written_by = "rxr"
    read = staticmethod(read_rxr)
    id_field = "instruction_id"
    official_items: ClassVar[dict[str, int]] = {}


NEEDED = {"annotations": "instructions and their paths", "connectivity": "houses' graphs"}


def _unit(name: str) -> float:
    return 1.0 if name in METRES else 100.0


def _groups(items: Sequence[Instruction]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """By language where there are any, else by house: what, its name, which items [n]."""
    what, names = ("language", [one.language for one in items]) if items[0].language else (
        "scan", [one.scan for one in items])  # fmt: skip
    for name in dict.fromkeys(names):
        yield what, name, np.array([one == name for one in names])


def _lines(
    items: Sequence[Instruction], walks: Sequence[Walk], table: dict[str, NDArray[np.float64]]
) -> Iterator[dict[str, Any]]:
    for place, item in enumerate(items):
        yield {
            "id": item.id, "scan": item.scan, "path_id": item.path_id, "instruction": item.text,
            "path": list(item.path), "walked": list(walks[place].viewpoints),
            "scores": {name: float(values[place]) for name, values in table.items()},
            "right": {"SR": bool(table["SR"][place]), "OSR": bool(table["OSR"][place])},
        }  # fmt: skip
