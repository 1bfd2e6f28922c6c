"""Answers to VQA v2's and OK-VQA's questions that were written before, by the official accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import text_page
from mmkd_cli.benches.aro_orders import SPACY_MODEL
from mmkd_cli.benches.outcomes import clusters
from mmkd_cli.benches.prepared_references import prepared_answers
from mmkd_cli.benches.result_files import in_order, read_results
from mmkd_cli.benches.text_page import Folder, Said, Stored
from mmkd_cli.benches.vqa_files import VqaItems, read_vqa
from mmkd_cli.core import console
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval
from mmkd_cli.metrics.vqa import exact_match, official_percent, vqa_accuracy
from mmkd_cli.reports.quoted import quoted_rows

ANSWER_TYPES = ("yes/no", "number", "other")

Outcomes = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
"""By the metric's name: places of the questions that it judges, and what each of them scores, 0 to 1."""


class VqaConfig(Config):
    """Keys of the benches of answers."""

    name: str = key("vqav2", "the bench")
    annotations: str | None = key(None, "the people's answers: the official JSON", source="[U]", identity=False)
    questions: str | None = key(None, "the questions: the official JSON; for the page and the lines", source="[U]",
                                identity=False)  # fmt: skip
    images: str | None = key(None, "folder of the pictures, for the page", source="[U]", identity=False)
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(12, "items of each sort on the page: wrong and right", source="[U]", identity=False, ge=0)


class OkVqaConfig(VqaConfig):
    name: str = key("okvqa", "the bench")


class Vqa:
    """`overall`, `yes/no`, `number`, `other`: percent, rounded as the official script does; `exact_match`."""

    Config: ClassVar[type] = VqaConfig
    default_split: str = "val"
    """Where the annotations' name says none."""
    needs_data: ClassVar[bool] = False
    matching: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = True
    written_by: ClassVar[str] = "vqa"
    tables: ClassVar[Sequence[str]] = ("images", "questions")
    official_questions: ClassVar[int] = 214_354

    def __init__(self, config: VqaConfig) -> None:
        self.config = config
        self.default_split = fields.split_named(config.annotations, self.default_split)

    def files(self) -> dict[str, str]:
        named = {"annotations": self.config.annotations, "questions": self.config.questions}
        return {name: place for name, place in named.items() if place is not None}

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        """No model runs."""
        return len(self._read(given)[1]), 0.0

    def run(self, given: BenchInput) -> Scores:
        items, answers = self._read(given)
        outcomes = self.judge(items, answers)
        accuracy = outcomes["overall"][1]
        types, kinds = Counter(items.question_types), np.array(items.question_types)
        scores = Scores(
            metrics={name: official_percent(values.tolist()) for name, (_, values) in outcomes.items()},
            counts={"items": len(items), "skipped": len(items.skipped), "images": len(set(items.images))},
            by={
                f"question type: {name}": {
                    "overall": official_percent(accuracy[kinds == name].tolist()),
                    "items": float(times),
                }
                for name, times in types.most_common()
            },
        )
        if given.metrics_only:
            return scores
        if self.config.bootstrap:
            scores.intervals = {name: self._interval(items, *outcome) for name, outcome in outcomes.items()}
        scores.items = _lines(items, answers, outcomes)
        stored = Stored.of(given, [[row] for row in items.image_rows])
        pictures = Folder.of(self.config.images, items.picture_files) or stored
        heat = stored.heated(given.heat, lambda place: items.asked[place]) if stored else None
        for title, chosen in (("Wrong", accuracy == 0), ("Right, or right for some", accuracy > 0)):
            places = np.flatnonzero(chosen).tolist()
            shown = text_page.drawn(places, self.config.shown, self.config.seed)
            said = _shown(items, answers, accuracy)
            scores.page += text_page.section(title, shown, len(places), said, pictures, heat)
        scores.official = len(items) == self.official_questions
        if scores.official:
            scores.quoted = quoted_rows(self.config.name)
        else:
            console.warn(
                f"{self.config.name} has {self.official_questions:,} questions, scored are {len(items):,}: not what "
                "papers report"
            )
        return scores

    def judge(self, items: VqaItems, answers: Sequence[str]) -> Outcomes:
        accuracy = np.array([vqa_accuracy(*pair) for pair in zip(answers, items.answers, strict=True)])
        exact = np.array([exact_match(*pair) for pair in zip(answers, items.common, strict=True)], dtype=np.float64)
        every, kinds = np.arange(len(items)), np.array(items.answer_types)
        places = {name: np.flatnonzero(kinds == name) for name in ANSWER_TYPES}
        by_type = {name: (own, accuracy[own]) for name, own in places.items() if len(own)}
        return {"overall": (every, accuracy), **by_type, "exact_match": (every, exact)}

    def _read(self, given: BenchInput) -> tuple[VqaItems, Sequence[str]]:
        """The items, and an answer to each."""
        config = self.config
        if given.predictions is None:
            raise UserError(f"{config.name} scores answers that are written: give --predictions FILE")
        if config.annotations is not None:
            asked = Path(config.questions).expanduser() if config.questions else None
            items = read_vqa(Path(config.annotations).expanduser(), asked)
        elif given.data is not None:
            items = prepared_answers(given.data, str(given.split))
        else:
            raise UserError(f"{config.name} needs the people's answers: give --annotations (and --questions), or "
                            "prepared data by --data")  # fmt: skip
        results = read_results(given.predictions, "question_id", "answer")
        return items, in_order(results, items.ids, given.predictions, "question_id", items.skipped)

    def _interval(self, items: VqaItems, places: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float]:
        """Percent. Questions of one picture are drawn together."""
        cluster = clusters([items.images[place] for place in places])
        means = bootstrap_means(values[:, None], cluster, resamples=self.config.bootstrap, seed=self.config.seed)
        return percentile_interval(100 * means[:, 0])


class OkVqa(Vqa):
    """With `overall_lemmatized`: its people's answers are lemmas, so some papers lemmatise the predictions, too."""

    Config = OkVqaConfig
    official_questions = 5_046

    def scorer(self) -> dict[str, str]:
        return {"lemmas": f"spaCy {SPACY_MODEL}" if _lemmatizer() else "none"}

    def judge(self, items: VqaItems, answers: Sequence[str]) -> Outcomes:
        outcomes = super().judge(items, answers)
        lemmas = _lemmatizer()
        if lemmas is None:
            console.warn(f"overall_lemmatized is left out: spaCy's {SPACY_MODEL} is not here")
            return outcomes
        pairs = zip(map(lemmas, answers), items.answers, strict=True)
        accuracy = np.array([vqa_accuracy(*pair) for pair in pairs])
        return {**outcomes, "overall_lemmatized": (np.arange(len(items)), accuracy)}


@cache
def _lemmatizer() -> Callable[[str], str] | None:
    """Nouns and verbs of an answer to their lemmas (as LAVIS does); None without spaCy's English model."""
    try:
        import spacy

        model = spacy.load(SPACY_MODEL, disable=["parser", "ner"])
    except (ImportError, OSError):
        return None
    return lambda text: " ".join(t.lemma_ if t.pos_ in ("NOUN", "VERB") else t.text for t in model(text))


def _lines(items: VqaItems, answers: Sequence[str], outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    accuracy, exact = outcomes["overall"][1], outcomes["exact_match"][1]
    for place, one in enumerate(items.ids):
        yield {
            "id": one,
            "image": items.images[place],
            "question": items.asked[place],
            "answer": answers[place],
            "accuracy": round(100 * float(accuracy[place]), 2),
            "question_type": items.question_types[place],
            "answer_type": items.answer_types[place],
            "right": {"exact_match": bool(exact[place])},
        }


def _shown(items: VqaItems, answers: Sequence[str], accuracy: NDArray[np.float64]) -> Callable[[int], Said]:
    def said(place: int) -> Said:
        people = [(text, f"{times} of {len(items.answers[place])} people")
                  for text, times in Counter(items.answers[place]).most_common()]  # fmt: skip
        score = float(accuracy[place])
        return Said(items.ids[place], items.asked[place], answers[place], people, score > 0, f"accuracy {score:.1f}")

    return said
