"""Image-text retrieval in both directions, on any prepared pairs or on the splits that papers report.

Every picture is compared with every text; any of a picture's own captions counts (papers' scoring; metrics/retrieval).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from mmkd_cli.benches import retrieval_page
from mmkd_cli.benches.embedding import Pairs, pair_rows, paired, probe
from mmkd_cli.benches.found import Names, find
from mmkd_cli.core import console
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.metrics.average_median_rank import average_median_rank
from mmkd_cli.metrics.retrieval import RECALL_KS, retrieval_ranks
from mmkd_cli.metrics.retrieval_scores import retrieval_intervals, retrieval_scores
from mmkd_cli.reports.quoted import quoted_rows


class RetrievalConfig(Config):
    """Keys of the retrieval benches."""

    name: str = key("retrieval", "the bench")
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the queries shown", source="[U]", ge=0)
    shown: int = key(
        6, "queries of each sort on the page: right and wrong, both ways", source="[U]", identity=False, ge=0
    )


class CocoConfig(RetrievalConfig):
    name: str = key("coco-retrieval", "the bench")


class Flickr30kConfig(RetrievalConfig):
    name: str = key("flickr30k-retrieval", "the bench")


class Flickr8kConfig(RetrievalConfig):
    name: str = key("flickr8k-retrieval", "the bench")


class Retrieval:
    """Any prepared pairs."""

    Config: ClassVar[type] = RetrievalConfig
    default_split: ClassVar[str] = "test"
    needs_data: ClassVar[bool] = True
    source: ClassVar[str | None] = None
    test_sizes: ClassVar[tuple[int, int] | None] = None

    def __init__(self, config: RetrievalConfig) -> None:
        self.config = config

    def files(self) -> dict[str, str]:
        return {}

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        rows = pair_rows(given.data, str(given.split))
        return probe(given, rows.images, rows.texts)

    def run(self, given: BenchInput) -> Scores:
        pairs = paired(given, given.layer)
        ranks = retrieval_ranks(pairs.images, pairs.texts, pairs.text_image)
        names = Names.of(given, pairs.rows)
        amr = average_median_rank(pairs.images, pairs.texts, pairs.text_image, image_order=names.image_order())
        scores = Scores(
            metrics={**retrieval_scores(ranks), **amr.scores()},
            counts={
                "items": len(pairs.images),
                "skipped": pairs.rows.skipped_images,
                "texts": len(pairs.texts),
                "skipped_texts": pairs.rows.skipped_texts,
                "amr_folds": amr.folds,
                "amr_fold_images": amr.fold_images,
            },
            by={"chance": chance_recalls(pairs)},
        )
        if given.metrics_only:
            return scores
        if self.config.bootstrap:
            scores.intervals = retrieval_intervals(
                ranks, pairs.text_image, resamples=self.config.bootstrap, seed=self.config.seed
            )
        found = find(pairs, ranks)
        scores.items = found.items(names)
        scores.page = retrieval_page.blocks(found, names, self.config.shown, self.config.seed)
        if self._is_its_own(given, pairs):
            scores.quoted = quoted_rows(self.config.name)
        return scores

    def _is_its_own(self, given: BenchInput, pairs: Pairs) -> bool:
        """Whether what is scored is the test split that papers report; no row of theirs is set beside anything else.

        A warning where the data is another, or the test split of another size.
        """
        if self.source is None:
            return False
        if given.data is not None:
            made_from = data_source(given.data.artifact.plan)
            if made_from != self.source:
                console.warn(
                    f"{self.config.name} is measured on {given.data.artifact.label}, made from {made_from!r} and not "
                    f"from {self.source!r}: its scores are not those that papers report"
                )
                return False
        sizes = (len(pairs.images), len(pairs.texts))
        if given.split not in (None, "test"):
            return False
        if self.test_sizes != sizes:
            console.warn(
                f"{self.config.name}'s test split has {self.test_sizes} pictures and texts, scored are {sizes}: "
                "not what papers report"
            )
        return self.test_sizes == sizes


class CocoRetrieval(Retrieval):
    """Karpathy's splits of COCO: 5,000 test pictures, all of their captions, no folds."""

    Config = CocoConfig
    source = "coco"
    test_sizes = (5000, 25010)


class Flickr30kRetrieval(Retrieval):
    """Karpathy's splits of Flickr30k: 1,000 test pictures, 5,000 captions."""

    Config = Flickr30kConfig
    source = "flickr30k"
    test_sizes = (1000, 5000)


class Flickr8kRetrieval(Retrieval):
    """Flickr8k's official splits: 1,000 test photos, 5,000 captions."""

    Config = Flickr8kConfig
    source = "flickr8k"
    test_sizes = (1000, 5000)


def data_source(plan: Mapping[str, Any]) -> str:
    """The source that prepared data was made from, by its registered name."""
    source = plan["config"].get("source")
    return str(source.get("name")) if isinstance(source, Mapping) else "unknown"


def chance_recalls(pairs: Pairs) -> dict[str, float]:
    """The recalls of a random order, in percent: what they would be if the model knew nothing."""
    own = torch.bincount(pairs.text_image[pairs.text_image >= 0], minlength=len(pairs.images)).numpy()
    own, n, m = own[own > 0], len(pairs.images), len(pairs.texts)
    chance = {}
    for k in RECALL_KS:
        # No own text among the first k: each place in turn goes to one of the m - own others.
        places = np.arange(min(k, m))[:, None]
        none = np.clip(m - own - places, 0, None) / (m - places)
        chance[f"image_to_text_recall@{k}"] = 100 * float(1 - none.prod(axis=0).mean())
    chance |= {f"text_to_image_recall@{k}": 100 * min(k, n) / n for k in RECALL_KS}
    return {**chance, "mean_recall": sum(chance.values()) / len(chance)}
