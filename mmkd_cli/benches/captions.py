"""Captions of COCO, nocaps and Flickr8k that were written before, by COCO's metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches import text_page
from mmkd_cli.benches.caption_files import LAYOUTS, CaptionItems, read_captions
from mmkd_cli.benches.prepared_references import prepared_captions
from mmkd_cli.benches.result_files import in_order, read_results
from mmkd_cli.benches.text_page import Folder, Said, Stored
from mmkd_cli.core import console
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.metrics.captions import CaptionScores, Tokenizer, caption_scores, missing_metrics, tokenizer_name
from mmkd_cli.reports.blocks import Block, Paragraph

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")
DOMAINS = ("in-domain", "near-domain", "out-domain")


class CaptionConfig(Config):
    """Keys of the caption benches."""

    name: str = key("coco-caption", "the bench")
    annotations: str | None = key(None, f"reference captions: {LAYOUTS}", source="[U]", identity=False)
    images: str | None = key(None, "folder of the pictures, for the page", source="[U]", identity=False)
    tokenizer: Tokenizer = key(
        "auto", "java: Stanford's; mmkd: ours, the same tokens; auto: Stanford's where there is Java",
        source="[C] pycocoevalcap", identity=False,
    )  # fmt: skip
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(24, "items on the page", source="[U]", identity=False, ge=0)


class Flickr8kConfig(CaptionConfig):
    name: str = key("flickr8k-caption", "the bench")


class NocapsConfig(CaptionConfig):
    name: str = key("nocaps", "the bench")
    idf: Literal["domain", "all"] = key(
        "domain", "whose captions CIDEr's document frequencies are counted in, for the scores of a domain",
        source="[U] the organisers' server scores each domain by itself",
    )  # fmt: skip


class Captions:
    """`Bleu_1` to `Bleu_4`, `METEOR`, `ROUGE_L`, `CIDEr`, `SPICE`, as pycocoevalcap scales them."""

    Config: ClassVar[type] = CaptionConfig
    default_split: str = "test"
    """Where the annotations' name says none."""
    needs_data: ClassVar[bool] = False
    matching: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = True
    written_by: ClassVar[str] = "caption"
    tables: ClassVar[Sequence[str]] = ("images", "texts")

    def __init__(self, config: CaptionConfig) -> None:
        self.config = config
        self.default_split = fields.split_named(config.annotations, self.default_split)

    def files(self) -> dict[str, str]:
        return {} if self.config.annotations is None else {"annotations": self.config.annotations}

    def scorer(self) -> dict[str, str]:
        """What the scores depend on beside the files: the tokenizer, and which metrics there are."""
        missing = missing_metrics()
        return {
            "tokenizer": tokenizer_name(self.config.tokenizer),
            "metrics": " ".join(name for name in METRICS if name not in missing),
        }

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        """No model runs."""
        return len(self._read(given)[1]), 0.0

    def run(self, given: BenchInput) -> Scores:
        items, captions = self._read(given)
        shown = text_page.drawn(range(len(items)), self.config.shown, self.config.seed)
        folder = Folder.of(self.config.images, lambda place: [items.files[place]])
        if folder and not given.metrics_only:
            for place in shown:
                folder.file(place)  # what is not there is said before the scoring
        found = caption_scores(items.references, captions, self.config.tokenizer)
        for name, why in found.left_out.items():
            console.warn(f"{name} is left out: {why}")
        scores = Scores(
            metrics={name: found.scores[name].value for name in METRICS if name in found.scores},
            counts={"items": len(items), "skipped": len(items.skipped), "references": sum(map(len, items.references))},
            by=self.by(items, found),
        )
        if given.metrics_only:
            return scores
        if self.config.bootstrap:
            scores.intervals = {
                name: found.scores[name].interval(resamples=self.config.bootstrap, seed=self.config.seed)
                for name in scores.metrics
            }
        scores.items = _lines(items, captions, found)
        left_out: list[Block] = [Paragraph(f"Left out: {name}: {why}.") for name, why in found.left_out.items()]
        cider = found.scores["CIDEr"].items

        def said(place: int) -> Said:
            true = [(text, "reference") for text in items.references[place]]
            return Said(items.ids[place], "", captions[place], true, None, f"CIDEr {cider[place]:.3f}")

        pictures = folder or Stored.of(given, [[row] for row in items.image_rows])
        scores.page = [*left_out, *text_page.section("Captions", shown, len(items), said, pictures)]
        return scores

    def by(self, items: CaptionItems, found: CaptionScores) -> dict[str, dict[str, float]]:
        return {}

    def check(self, items: CaptionItems, where: str) -> None:
        """UserError where the items are not the bench's; before anything is scored."""

    def _read(self, given: BenchInput) -> tuple[CaptionItems, Sequence[str]]:
        """The items, and a caption of each."""
        if given.predictions is None:
            raise UserError(f"{self.config.name} scores captions that are written: give --predictions FILE")
        if self.config.annotations is not None:
            path = Path(self.config.annotations).expanduser()
            items = read_captions(path, given.split or self.default_split)
        elif given.data is not None:
            items = prepared_captions(given.data, str(given.split))
        else:
            raise UserError(f"{self.config.name} needs reference captions: give --annotations, {LAYOUTS}, or prepared "
                            "data by --data")  # fmt: skip
        self.check(items, self.config.annotations or (given.data.artifact.label if given.data else ""))
        results = read_results(given.predictions, "image_id", "caption")
        return items, in_order(results, items.ids, given.predictions, "image_id", items.skipped)


class Flickr8kCaptions(Captions):
    Config = Flickr8kConfig


class Nocaps(Captions):
    """By domain, too; of all domains the metrics themselves."""

    Config = NocapsConfig
    default_split = "val"

    def check(self, items: CaptionItems, where: str) -> None:
        if unknown := sorted(set(items.domains) - set(DOMAINS)):
            raise UserError(
                f"{where}: domain {unknown[0]!r} of an image is none of {', '.join(DOMAINS)}: give nocaps' own file, "
                "whose images have a field 'domain'"
            )

    def by(self, items: CaptionItems, found: CaptionScores) -> dict[str, dict[str, float]]:
        domain: NDArray[np.str_] = np.array(items.domains)
        return {
            name: {**found.of(np.flatnonzero(domain == name), own_frequencies=self.config.idf == "domain"),
                   "items": float((domain == name).sum())}
            for name in DOMAINS
            if (domain == name).any()
        }  # fmt: skip


def _lines(items: CaptionItems, captions: Sequence[str], found: CaptionScores) -> Iterator[dict[str, Any]]:
    for place, one in enumerate(items.ids):
        yield {
            "id": one,
            "caption": captions[place],
            "references": list(items.references[place]),
            "scores": {name: float(score.items[place]) for name, score in found.scores.items()},
        }
