"""ARO (Yuksekgonul et al. 2023): relations and attributes of Visual Genome's crops, and the order of captions' words.

VG-Relation and VG-Attribution are means over relations and over pairs of attributes, a tie is wrong; in the order tasks
a caption must score at least as high as its four shuffles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import aro_files
from mmkd_cli.benches.aro_orders import Absent, Tools, open_tools
from mmkd_cli.benches.outcomes import Outcome, Outcomes, clusters
from mmkd_cli.benches.pair_bench import PairBench, PairBenchConfig
from mmkd_cli.benches.pair_items import PairItems, Part
from mmkd_cli.benches.pair_scores import Scores, ready_by_name, unnamed
from mmkd_cli.core import paths
from mmkd_cli.core.config import key
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.accuracy import Accuracy
from mmkd_cli.metrics.matching import first_above_rest, first_not_below_rest, macro_groups

Task = Literal["vg_relation", "vg_attribution", "coco_order", "flickr30k_order"]

SYMMETRIC = Path(__file__).parent / "aro_symmetric_relations.json"
"""157 relations that the authors leave out: what is beside, near or with something has it beside, near or with it."""
FEWEST = 25
"""Items of a pair of attributes, below which it is left out."""
CHANCE = {"vg_relation": 50.0, "vg_attribution": 50.0, "coco_order": 20.0, "flickr30k_order": 20.0}
LAYOUT = (
    "NAME.image [n, d] and NAME.text [n, k, d] (k 2, or 5 of an order; text 0 the true caption), items in the file's "
    "order, for NAME of " + ", ".join(aro_files.FILES)
)


class AroConfig(PairBenchConfig):
    name: str = key("aro", "the bench")
    tasks: tuple[Task, ...] = key(
        tuple(CHANCE), "the tasks to score, of those whose files are there", source="[P] four"
    )


class Aro(PairBench):
    """`vg_relation`, `vg_attribution`, `coco_order`, `flickr30k_order`: percent."""

    Config = AroConfig
    # VG-Relation's number and those of Karpathy's captions are published, VG-Attribution's was not found.
    official: ClassVar = {"vg_relation": 23937, "coco_order": 25010, "flickr30k_order": 5000}
    sources = frozenset({"coco", "flickr30k", "flickr8k"})
    get = aro_files.GET

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._tools: Tools | None = None

    def files(self) -> dict[str, str]:
        if self.config.annotations is None:
            return {}
        found = {task: str(file) for task, file in self._annotation_files().items()}
        folders = aro_files.image_folders(self.config.annotations, self.config.images)
        return {**found, "images": str(folders[0])}

    def _annotation_files(self) -> dict[str, Path]:
        """Of the tasks asked for, those that can be scored; the others' reasons are kept."""
        there = aro_files.annotation_files(self.config.annotations)
        self.left_out = {task: "its file is not there" for task in self.config.tasks if task not in there}
        orders = [task for task in self.config.tasks if task in aro_files.ORDERS and task in there]
        if orders and self._tools is None:
            try:
                self._tools = open_tools()
            except Absent as why:
                self.left_out |= dict.fromkeys(orders, str(why))
        found = {task: file for task, file in there.items() if task in self.config.tasks and task not in self.left_out}
        if not found:
            reasons = "; ".join(f"{task}: {why}" for task, why in self.left_out.items())
            raise UserError(f"none of ARO's tasks can be scored ({reasons}): {aro_files.GET}")
        return found

    def read(self, *, with_pictures: bool) -> PairItems:
        folders = aro_files.image_folders(self.config.annotations, self.config.images)
        return aro_files.read(self._annotation_files(), folders if with_pictures else None, self._tools)

    def ready(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.floating]]:
        return ready_by_name(arrays, self.config.tasks, LAYOUT)

    def unnamed(self, scores: Scores) -> PairItems:
        grouped = [task for task in scores if task not in aro_files.ORDERS]
        if grouped:
            raise UserError(f"{grouped[0]} is a mean over groups that its file names: give --annotations, too")
        return unnamed(scores)

    def judge(self, items: PairItems, scores: Scores) -> dict[str, Outcome]:
        found, first = {}, 0
        for task, part in items.parts.items():
            outcome = _order(part, scores[task]) if task in aro_files.ORDERS else _macro(task, part, scores[task])
            found[task] = Outcome(first + outcome.items, outcome.accuracy, outcome.groups)
            first += len(part)
        return found

    def by(self, items: PairItems, outcomes: Outcomes) -> dict[str, dict[str, float]]:
        """Each group's accuracy and number of items; chance."""
        found = {"chance": {task: CHANCE[task] for task in outcomes}}
        for task, outcome in outcomes.items():
            for number, group in enumerate(outcome.groups or ()):
                own = outcome.accuracy.right[outcome.accuracy.group == number]
                found[f"{task}: {group}"] = {"accuracy": 100 * float(own.mean()), "items": len(own)}
        return found


def _order(part: Part, scores: NDArray[np.floating]) -> Outcome:
    return Outcome(np.arange(len(part)), Accuracy(first_not_below_rest(scores), cluster=clusters(part.images)))


def _macro(task: str, part: Part, scores: NDArray[np.floating]) -> Outcome:
    """Over the groups that count; items of others are scored and belong to no metric."""
    names = part.group or ()
    if task == "vg_relation":
        group, kept = macro_groups(names, without=frozenset(paths.read_json(SYMMETRIC)))
    else:
        group, kept = macro_groups(names, at_least=FEWEST)
    items = np.flatnonzero(group >= 0)
    if not len(items):
        raise UserError(f"{task}: no group of its {len(part):,} items counts: name the whole file")
    images = [part.images[item] for item in items.tolist()]
    return Outcome(items, Accuracy(first_above_rest(scores)[items], group[items], clusters(images)), kept)
