"""Statements and questions with one right answer, that somebody's model answered: GQA, SNLI-VE, NLVR2, NLVR, DAQUAR."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import text_page
from mmkd_cli.benches.judged_files import read_said, read_said_csv, read_said_lines
from mmkd_cli.benches.outcomes import clusters
from mmkd_cli.benches.prepared_references import prepared_judged
from mmkd_cli.benches.result_files import in_order
from mmkd_cli.benches.text_page import Folder, Said, Stored
from mmkd_cli.core import console
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields, judged
from mmkd_cli.data.sources.judged import Judged
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval
from mmkd_cli.metrics.wups import Similarity, answer_set, wordnet_similarity, wups
from mmkd_cli.reports.quoted import quoted_rows

Outcomes = dict[str, NDArray[np.float64]]
"""By the metric's name, what each item scores, 0 to 1."""


class JudgedConfig(Config):
    """Keys of the benches of single answers."""

    name: str = key("", "the bench")
    annotations: str | None = key(None, "the official file of the items with their answers", source="[U]",
                                  identity=False)  # fmt: skip
    images: str | None = key(None, "folder of the pictures, for the page", source="[U]", identity=False)
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(12, "items of each sort on the page: wrong and right", source="[U]", identity=False, ge=0)


class GqaConfig(JudgedConfig):
    name: str = key("gqa", "the bench")


class SnliVeConfig(JudgedConfig):
    name: str = key("snli-ve", "the bench")


class Nlvr2Config(JudgedConfig):
    name: str = key("nlvr2", "the bench")


class NlvrConfig(JudgedConfig):
    name: str = key("nlvr", "the bench")


class DaquarConfig(JudgedConfig):
    name: str = key("daquar", "the bench")
    photos: str | None = key(None, "list of the photos whose questions are scored (None: all)", source="[U]",
                             identity=False)  # fmt: skip


class JudgedBench:
    """`accuracy`: percent (`core.contracts.Bench`). A bench is this with its files; exact string equality decides."""

    Config: ClassVar[type] = JudgedConfig
    default_split: str = "val"
    """Where the annotations' name says none."""
    needs_data: ClassVar[bool] = False
    matching: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = True
    written_by: ClassVar[str] = "vqa"
    tables: ClassVar[Sequence[str]] = ("images", "questions")
    id_fields: ClassVar[Sequence[str]] = ("question_id",)
    answer_fields: ClassVar[Sequence[str]] = ("answer", "prediction", "label")
    official_items: ClassVar[Mapping[str, int]] = {}
    """Split -> items of the published files, where they are known."""

    def __init__(self, config: JudgedConfig) -> None:
        self.config = config
        self.default_split = fields.split_named(config.annotations, self.default_split)

    def files(self) -> dict[str, str]:
        return {} if self.config.annotations is None else {"annotations": self.config.annotations}

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        """No model runs."""
        return len(self._read(given)[0]), 0.0

    def read(self, path: Path) -> tuple[list[Judged], frozenset[str]]:
        """Items, and ids of rows that are none."""
        raise NotImplementedError

    def said(self, path: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
        """What a result file says: (id, answer). ids: of the items in their order."""
        return read_said(path, self.id_fields, self.answer_fields)

    def prepared_groups(self, item: Judged) -> Mapping[str, str]:
        """Of an item of prepared data, what kind it is."""
        return {}

    def judge(self, items: Sequence[Judged], answers: Sequence[str]) -> Outcomes:
        return {"accuracy": np.array([float(a == one.answer) for one, a in zip(items, answers, strict=True)])}

    def whole(self, items: Sequence[Judged], right: NDArray[np.float64]) -> dict[str, float]:
        """Metrics that are no mean over items, 0 to 1."""
        return {}

    def run(self, given: BenchInput) -> Scores:
        items, answers, skipped = self._read(given)
        outcomes = self.judge(items, answers)
        right = outcomes["accuracy"]
        scores = Scores(
            metrics={n: 100 * v for n, v in {**{n: float(v.mean()) for n, v in outcomes.items()},
                                              **self.whole(items, right)}.items()},
            counts={"items": len(items), "skipped": skipped,
                    "images": len({image for one in items for image in one.images})},
            by={**_by(items, right), "always the commonest": {"accuracy": _commonest(items)}},
        )  # fmt: skip
        if given.metrics_only:
            return scores
        if self.config.bootstrap:
            drawn = bootstrap_means(
                100 * np.stack([*outcomes.values()], axis=1), clusters([one.images[0] for one in items]),
                resamples=self.config.bootstrap, seed=self.config.seed,
            )  # fmt: skip
            scores.intervals = {n: percentile_interval(drawn[:, k]) for k, n in enumerate(outcomes)}
        scores.items = _lines(items, answers, outcomes)
        folder = Folder.of(self.config.images, lambda place: [f"{items[place].images[0]}{suffix}" for suffix in
                                                              (".jpg", ".png", "")])  # fmt: skip
        stored = Stored.of(given, [one.rows for one in items]) if self.config.annotations is None else None
        heat = stored.heated(given.heat, lambda place: items[place].asked) if stored else None
        for title, chosen in (("Wrong", right == 0), ("Right", right == 1)):
            places = np.flatnonzero(chosen).tolist()
            shown = text_page.drawn(places, self.config.shown, self.config.seed)
            said = partial(_said, items, answers)
            scores.page += text_page.section(title, shown, len(places), said, folder or stored, heat)
        if self.official_items:
            scores.official = len(items) == self.official_items.get(self.default_split)
        if scores.official:
            scores.quoted = quoted_rows(self.config.name)
        return scores

    def _read(self, given: BenchInput) -> tuple[list[Judged], list[str], int]:
        """Items, an answer to each, how many rows of the annotations are no items."""
        name = self.config.name
        if given.predictions is None:
            raise UserError(f"{name} scores answers that are given: name them by --predictions FILE")
        if self.config.annotations is not None:
            items, others = self.read(Path(self.config.annotations).expanduser())
        elif given.data is not None:
            items, others = prepared_judged(given.data, str(given.split))
            items = [replace(one, groups=self.prepared_groups(one)) for one in items]
        else:
            raise UserError(f"{name} needs the right answers: give --annotations FILE, or prepared data by --data")
        ids = [one.id for one in items]
        said = self.said(given.predictions, ids)
        return items, in_order(said, ids, given.predictions, self.id_fields[0], others), len(others)


class Gqa(JudgedBench):
    """Of the balanced questions (GQA's eval.py); by binary and open ones, and by their types."""

    Config = GqaConfig
    id_fields = ("questionId", "question_id")
    answer_fields = ("prediction", "answer")

    def read(self, path: Path) -> tuple[list[Judged], frozenset[str]]:
        return judged.read_gqa(path)

    def prepared_groups(self, item: Judged) -> Mapping[str, str]:
        return item.groups


class SnliVe(JudgedBench):
    """Three labels; by each of them."""

    Config = SnliVeConfig
    id_fields = ("pairID", "question_id")
    answer_fields = ("prediction", "label", "answer", "gold_label")
    official_items: ClassVar[Mapping[str, int]] = {"val": 17_858, "test": 17_901}

    def read(self, path: Path) -> tuple[list[Judged], frozenset[str]]:
        return judged.read_snli_ve(path)

    def prepared_groups(self, item: Judged) -> Mapping[str, str]:
        return {"label": item.answer}


class Nlvr2(JudgedBench):
    """Also `consistency`: percent of the sentences of which every item is right (nlvr2/eval/metrics.py)."""

    Config = Nlvr2Config
    written_by = "nlvr2"
    id_fields = ("identifier", "question_id")

    def read(self, path: Path) -> tuple[list[Judged], frozenset[str]]:
        return judged.read_nlvr2(path)

    def said(self, path: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
        """The release's CSV, or JSON as `generate` writes it."""
        if path.suffix == ".csv":
            return read_said_csv(path)
        return [(one, answer.lower()) for one, answer in super().said(path, ids)]

    def whole(self, items: Sequence[Judged], right: NDArray[np.float64]) -> dict[str, float]:
        sentence = clusters([one.sentence for one in items])
        missed = np.bincount(sentence, 1 - right)
        return {"consistency": float((missed == 0).mean())}


class Nlvr(Nlvr2):
    """The same of NLVR's drawn pictures."""

    Config = NlvrConfig
    written_by = "nlvr"

    def read(self, path: Path) -> tuple[list[Judged], frozenset[str]]:
        return judged.read_nlvr(path)


class Daquar(JudgedBench):
    """`accuracy` of the set of answers; `wups@0.9` and `wups@0.0`, where nltk's WordNet is here."""

    Config = DaquarConfig
    default_split = "test"

    def files(self) -> dict[str, str]:
        photos: str | None = self.config.photos  # type: ignore[attr-defined]
        return {**super().files(), **({} if photos is None else {"photos": photos})}

    def scorer(self) -> dict[str, str]:
        return {"wups": "nltk's WordNet" if wordnet_similarity() else "none"}

    def read(self, path: Path) -> tuple[list[Judged], frozenset[str]]:
        photos = self.config.photos  # type: ignore[attr-defined]
        return judged.read_daquar(path, Path(photos).expanduser() if photos else None)

    def said(self, path: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
        if path.suffix == ".txt":
            return read_said_lines(path, ids)
        return super().said(path, ids)

    def judge(self, items: Sequence[Judged], answers: Sequence[str]) -> Outcomes:
        pairs = [(said, one.answer) for one, said in zip(items, answers, strict=True)]
        exact = [float(answer_set(said) == answer_set(true)) for said, true in pairs]
        outcomes = {"accuracy": np.array(exact)}
        similarity: Similarity | None = wordnet_similarity()
        if similarity is None:
            console.warn("wups is left out: nltk's WordNet is not here")
            return outcomes
        for threshold in (0.9, 0.0):
            found = [wups(said, true, threshold, similarity) for said, true in pairs]
            outcomes[f"wups@{threshold}"] = np.array(found)
        return outcomes


def _by(items: Sequence[Judged], right: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Accuracy of each kind of item, and how many there are."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(items):
        for kind, name in one.groups.items():
            places[f"{kind}: {name}"].append(place)
    return {
        name: {"accuracy": 100 * float(right[own].mean()), "items": float(len(own))} for name, own in places.items()
    }


def _commonest(items: Sequence[Judged]) -> float:
    """Percent that the commonest answer is right of."""
    return 100 * float(np.unique([one.answer for one in items], return_counts=True)[1].max() / len(items))


def _said(items: Sequence[Judged], answers: Sequence[str], place: int) -> Said:
    one = items[place]
    return Said(one.id, one.asked, answers[place], [(one.answer, "right")], answers[place] == one.answer, "")


def _lines(items: Sequence[Judged], answers: Sequence[str], outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    for place, one in enumerate(items):
        scores = {name: float(values[place]) for name, values in outcomes.items() if name != "accuracy"}
        yield {"id": one.id, "images": list(one.images), "asked": one.asked, "answer": answers[place],
               "true": one.answer, **({"scores": scores} if scores else {}),
               "right": {"accuracy": bool(outcomes["accuracy"][place])}}  # fmt: skip
