"""Summaries (XSum, CNN/DailyMail) and rewritten sentences (Yelp) that were written before: ROUGE and BLEU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmkd_cli.benches import text_page
from mmkd_cli.benches.prepared_references import prepared_texts
from mmkd_cli.benches.text_files import paired_texts, read_references
from mmkd_cli.benches.text_page import Said
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.bleu import bleu_scores
from mmkd_cli.metrics.corpus import CorpusScore, mean_score
from mmkd_cli.metrics.evaluate_modules import open_module
from mmkd_cli.reports.quoted import quoted_rows


class TextConfig(Config):
    """Keys of the benches of texts."""

    name: str = key("", "the bench")
    annotations: str | None = key(
        None, "the references: lines, or JSON rows (ids as in the predictions, or in their order)", source="[U]",
        identity=False,
    )  # fmt: skip
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(24, "items on the page", source="[U]", identity=False, ge=0)


class XsumConfig(TextConfig):
    name: str = key("xsum", "the bench")


class CnnDailymailConfig(TextConfig):
    name: str = key("cnn-dailymail", "the bench")


class YelpConfig(TextConfig):
    name: str = key("yelp", "the bench")


class WrittenTexts:
    """A bench is this with its metric (`core.contracts.Bench`)."""

    Config: ClassVar[type] = TextConfig
    default_split: ClassVar[str] = "test"
    needs_data: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = True
    written_by: ClassVar[str] = "text"
    fields: ClassVar[Sequence[str]] = ()
    """Of a JSON row, those that may hold the text."""
    reference_fields: ClassVar[Sequence[str] | None] = None
    """The same of a row of references, where these are others."""
    tables: ClassVar[Sequence[str]] = ("texts",)
    column: ClassVar[str] = "summary"
    """Of prepared texts, what holds the references."""
    official_items: ClassVar[int] = 0

    def __init__(self, config: TextConfig) -> None:
        self.config = config

    def files(self) -> dict[str, str]:
        return {} if self.config.annotations is None else {"annotations": self.config.annotations}

    def scorer(self) -> dict[str, str]:
        raise NotImplementedError

    def judge(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CorpusScore]:
        """0 to 1 by the metric's name."""
        raise NotImplementedError

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        """No model runs."""
        return len(self._read(given)[0][0]), 0.0

    def run(self, given: BenchInput) -> Scores:
        (ids, texts, references), skipped = self._read(given)
        found = self.judge(texts, references)
        scores = Scores(
            metrics={name: 100 * score.value for name, score in found.items()},
            counts={"items": len(ids), "skipped": skipped, "references": sum(map(len, references))},
        )
        if given.metrics_only:
            return scores
        if self.config.bootstrap:
            for name, score in found.items():
                low, high = score.interval(resamples=self.config.bootstrap, seed=self.config.seed)
                scores.intervals[name] = (100 * low, 100 * high)
        scores.items = (
            {
                "id": one,
                "text": texts[place],
                "references": references[place],
                "scores": {name: 100 * float(score.items[place]) for name, score in found.items()},
            }
            for place, one in enumerate(ids)
        )

        def said(place: int) -> Said:
            own = ", ".join(f"{name} {100 * score.items[place]:.1f}" for name, score in found.items())
            return Said(ids[place], "", texts[place], [(text, "reference") for text in references[place]], None, own)

        shown = text_page.drawn(range(len(ids)), self.config.shown, self.config.seed)
        scores.page = text_page.section("Texts", shown, len(ids), said, None)
        if len(ids) == self.official_items:
            scores.quoted = quoted_rows(self.config.name)
        return scores

    def _read(self, given: BenchInput) -> tuple[tuple[list[str], list[str], list[list[str]]], int]:
        """Ids, texts, references of each; how many rows of prepared data are no items."""
        if given.predictions is None:
            raise UserError(f"{self.config.name} scores texts that are written: give --predictions FILE")
        if self.config.annotations is not None:
            file = Path(self.config.annotations).expanduser()
            true = read_references(file, self.reference_fields or self.fields)
            return paired_texts(given.predictions, self.fields, true, f"references {file}"), 0
        if given.data is None:
            raise UserError(f"{self.config.name} needs references: give --annotations FILE (lines, or JSON rows), or "
                            "prepared data by --data")  # fmt: skip
        true, skipped = prepared_texts(given.data, str(given.split), self.column)
        where = f"{given.data.artifact.label}, split {given.split!r}"
        return paired_texts(given.predictions, self.fields, true, where, skipped), len(skipped)


class Summaries(WrittenTexts):
    """`rouge1`, `rouge2`, `rougeL`, and `rougeLsum` over lines: F1 in percent, the best of several references."""

    def scorer(self) -> dict[str, str]:
        return {"rouge": "mmkd (as rouge-score, use_stemmer=True)"}

    def judge(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CorpusScore]:
        pairs = [(place, text) for place, several in enumerate(references) for text in several]
        scored = open_module("rouge").compute(
            predictions=[texts[place] for place, _ in pairs], references=[text for _, text in pairs],
            use_aggregator=False,
        )  # fmt: skip
        found = {}
        for name, values in scored.items():
            best = np.zeros(len(texts))
            np.maximum.at(best, [place for place, _ in pairs], values)
            found[name] = mean_score(best)
        return found


class Xsum(Summaries):
    Config = XsumConfig
    fields = ("summary", "prediction", "text")
    official_items = 11_334


class CnnDailymail(Summaries):
    Config = CnnDailymailConfig
    fields = ("highlights", "summary", "prediction", "text")
    official_items = 11_490


class Yelp(WrittenTexts):
    """`bleu`: of the corpus, up to four words, of the tokens between spaces as they stand, in percent."""

    Config = YelpConfig
    column = "references"
    fields = ("text", "prediction", "output")
    reference_fields = ("reference", "text")  # beside a reference `text` is the source
    official_items = 1_000

    def scorer(self) -> dict[str, str]:
        return {"bleu": "pycocoevalcap's, on tokens between spaces"}

    def judge(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CorpusScore]:
        said = {place: [text] for place, text in enumerate(texts)}
        return {"bleu": bleu_scores(dict(enumerate(references)), said)["Bleu_4"]}
