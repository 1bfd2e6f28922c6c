"""SugarCrepe (Hsieh et al. 2023): a picture, its caption, and a fluent caption with something added, replaced, swapped.

Accuracy of each of seven files, and their mean; a tie is wrong. CLIP_benchmark counts a tie as right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import sugarcrepe_files
from mmkd_cli.benches.outcomes import Outcome, Outcomes, clusters, values
from mmkd_cli.benches.pair_bench import PairBench, PairBenchConfig
from mmkd_cli.benches.pair_items import PairItems
from mmkd_cli.benches.pair_scores import Scores, ready_by_name, unnamed
from mmkd_cli.core.config import key
from mmkd_cli.metrics.accuracy import Accuracy
from mmkd_cli.metrics.matching import first_above_rest

LAYOUT = (
    "NAME.image [n, d] and NAME.text [n, 2, d] (text 0 the true caption), items in the file's order, for NAME of "
    + ", ".join(sugarcrepe_files.ITEMS)
)


class SugarCrepeConfig(PairBenchConfig):
    name: str = key("sugarcrepe", "the bench")


class SugarCrepe(PairBench):
    """`add_att` to `swap_obj` and, of all seven, `macro`: percent."""

    Config = SugarCrepeConfig
    official = sugarcrepe_files.ITEMS
    sources = frozenset({"coco"})
    get = sugarcrepe_files.GET

    def files(self) -> dict[str, str]:
        if self.config.annotations is None:
            return {}
        found = {name: str(file) for name, file in self._annotation_files().items()}
        folders = sugarcrepe_files.image_folders(self.config.annotations, self.config.images)
        return {**found, **({"images": str(folders[0])} if folders else {})}

    def _annotation_files(self) -> dict[str, Path]:
        files = sugarcrepe_files.annotation_files(self.config.annotations)
        self.left_out = {name: "its file is not there" for name in sugarcrepe_files.ITEMS if name not in files}
        return files

    def read(self, *, with_pictures: bool) -> PairItems:
        folders = sugarcrepe_files.image_folders(self.config.annotations, self.config.images)
        return sugarcrepe_files.read(self._annotation_files(), folders if with_pictures else None)

    def ready(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.floating]]:
        return ready_by_name(arrays, list(sugarcrepe_files.ITEMS), LAYOUT)

    def unnamed(self, scores: Scores) -> PairItems:
        return unnamed(scores)

    def judge(self, items: PairItems, scores: Scores) -> dict[str, Outcome]:
        right = {name: first_above_rest(scores[name]) for name in items.parts}
        found, first = {}, 0
        for name, part in items.parts.items():
            places = np.arange(first, first + len(part))
            found[name] = Outcome(places, Accuracy(right[name], cluster=clusters(part.images)))
            first += len(part)
        if len(found) == len(sugarcrepe_files.ITEMS):
            found["macro"] = _macro(items, np.concatenate(list(right.values())))
        return found

    def by(self, items: PairItems, outcomes: Outcomes) -> dict[str, dict[str, float]]:
        """The mean over each kind's files; chance."""
        found = values(outcomes)
        kinds: dict[str, list[float]] = {}
        for name in items.parts:
            kinds.setdefault(name.partition("_")[0], []).append(found[name])
        return {
            "mean by kind": {kind: sum(own) / len(own) for kind, own in kinds.items()},
            "chance": dict.fromkeys(found, 50.0),
        }


def _macro(items: PairItems, right: NDArray[np.bool_]) -> Outcome:
    """The mean over the files; a picture's items are drawn together whatever their file."""
    names = list(items.parts)
    group = np.repeat(np.arange(len(names)), [len(items.parts[name]) for name in names])
    images = [image for part in items.parts.values() for image in part.images]
    return Outcome(np.arange(len(right)), Accuracy(right, group, clusters(images)), names)
