"""Winoground (Thrush et al. 2022): two pictures, two captions of the same words, and which belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches.embeddings_file import float_array
from mmkd_cli.benches.outcomes import Outcome, Outcomes
from mmkd_cli.benches.pair_bench import PairBench, PairBenchConfig
from mmkd_cli.benches.pair_items import PairItems, Part
from mmkd_cli.benches.pair_scores import Scores, ready_scores
from mmkd_cli.benches.winoground_files import GET, WinogroundFiles
from mmkd_cli.core.config import key
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.accuracy import Accuracy
from mmkd_cli.metrics.matching import winoground_right
from mmkd_cli.reports.blocks import Block, Cell, Heading, Table
from mmkd_cli.reports.page import shown

LAYOUT = "image [2n, d] and text [2n, d], rows 2i and 2i + 1 of item i"
CHANCE = {"text": 25.0, "image": 25.0, "group": 100 / 6}


class WinogroundConfig(PairBenchConfig):
    name: str = key("winoground", "the bench")


class Winoground(PairBench):
    """`text`, `image`, `group`, in percent; by tag where the annotations have tags. A tie is wrong."""

    Config = WinogroundConfig
    official: ClassVar = {"": 400}
    get = GET

    def files(self) -> dict[str, str]:
        if self.config.annotations is None:
            return {}
        return self._files().by_key()

    def _files(self) -> WinogroundFiles:
        return WinogroundFiles.find(self.config.annotations, self.config.images)

    def read(self, *, with_pictures: bool) -> PairItems:
        return self._files().read(with_pictures=with_pictures)

    def ready(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.floating]]:
        images, texts = (float_array(arrays, name, "2n d", LAYOUT) for name in ("image", "text"))
        if len(images) != len(texts) or len(images) % 2:
            raise UserError(
                f"embeddings: image has {len(images):,} rows, text {len(texts):,}: give {LAYOUT} (800 of all 400 items)"
            )
        return {"": ready_scores(images, texts, _pairs(len(images) // 2))}

    def unnamed(self, scores: Scores) -> PairItems:
        n = len(scores[""])
        texts = [f"caption {k} of item {i}" for i in range(n) for k in (0, 1)]
        ids = [str(i) for i in range(n)]
        return PairItems({"": Part(ids, _pairs(n), [f"ex_{i}" for i in range(n)])}, texts, None)

    def rivals(self, pairs: int) -> tuple[tuple[int, int], ...]:
        """Two of the text score (each picture's own caption), two of the image score (each caption's own picture)."""
        return (0, 2), (3, 1), (0, 1), (3, 2)

    def judge(self, items: PairItems, scores: Scores) -> dict[str, Outcome]:
        right = winoground_right(scores[""].reshape(-1, 2, 2))
        places = np.arange(len(scores[""]))
        return {name: Outcome(places, Accuracy(found)) for name, found in right.items()}

    def by(self, items: PairItems, outcomes: Outcomes) -> dict[str, dict[str, float]]:
        """Collapsed tags and numbers of main predicates, as the data set's authors report them; chance; finer tags."""
        found: dict[str, dict[str, float]] = {"chance": dict(CHANCE)}
        for collapsed, prefix in ((True, ""), (False, "tag: ")):
            for name, places in _tags(items.parts[""], collapsed=collapsed).items():
                own = {metric: Accuracy(o.accuracy.right[places]).value() for metric, o in outcomes.items()}
                found[prefix + name] = {**own, "items": len(places)}
        return found

    def page(self, items: PairItems, outcomes: Outcomes) -> list[Block]:
        tags = {name: found for way in (True, False) for name, found in _tags(items.parts[""], collapsed=way).items()}
        if not tags:
            return []
        rows: list[list[Cell]] = []
        for name, places in tags.items():
            row: list[Cell] = [name, len(places)]
            for outcome in outcomes.values():
                accuracy = Accuracy(outcome.accuracy.right[places])
                row.append(accuracy.value())
                if self.config.bootstrap:
                    interval = accuracy.interval(resamples=self.config.bootstrap, seed=self.config.seed)
                    row.append(" to ".join(map(shown, interval)))
            rows.append(row)
        interval_name = ["95 %"] if self.config.bootstrap else []
        columns = ["tag", "items", *(column for metric in outcomes for column in (metric, *interval_name))]
        return [Heading("By tag"), Table(columns, rows)]


def _pairs(items: int) -> NDArray[np.int64]:
    """Rows 2i and 2i + 1 of pictures and of captions: caption 0 with both pictures, then caption 1. [n, 4, 2]"""
    first = 2 * np.arange(items)
    return np.stack([np.stack([first + i, first + c], axis=1) for c in (0, 1) for i in (0, 1)], axis=1)


def _tags(part: Part, *, collapsed: bool) -> dict[str, NDArray[np.int64]]:
    """Tag -> places of its items, commonest first: the few that papers report, or all the finer ones."""
    found: dict[str, list[int]] = {}
    for place, note in enumerate(part.notes or ()):
        for name in _names(note, collapsed):
            found.setdefault(name, []).append(place)
    order = sorted(found, key=lambda name: -len(found[name]))
    return {name: np.array(found[name]) for name in order}


def _names(note: Mapping[str, Any], collapsed: bool) -> list[str]:
    if collapsed:
        predicates = note.get("num_main_preds")
        counted = [] if predicates is None else [f"{predicates} main predicate{'s' if predicates != 1 else ''}"]
        return [*([note["collapsed_tag"]] if note.get("collapsed_tag") else []), *counted]
    second = [name.strip() for name in note.get("secondary_tag", "").split(",")]
    return [name for name in dict.fromkeys([note.get("tag", ""), *second]) if name]
