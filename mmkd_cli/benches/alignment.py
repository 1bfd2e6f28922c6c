"""How near pictures lie to their own texts, and to others', at each output of a model: cosines with a histogram."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from mmkd_cli.benches.embedding import Pairs, pair_rows, paired, probe
from mmkd_cli.benches.found import Names
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.metrics.alignment import CosineAlignment, cosine_alignment
from mmkd_cli.reports.blocks import Block, Heading
from mmkd_cli.reports.plots import histogram_figure


class AlignmentConfig(Config):
    """Keys of the bench `alignment`."""

    name: str = key("alignment", "the bench")
    bins: int = key(100, "bins of the histogram, over cosines from -1 to 1", source="[U] 0.02 wide", ge=1)


class Alignment:
    """`metrics` are of the last layer (or of the one asked for), `by` holds every layer's."""

    Config: ClassVar[type] = AlignmentConfig
    default_split: ClassVar[str] = "test"
    needs_data: ClassVar[bool] = True

    def __init__(self, config: AlignmentConfig) -> None:
        self.config = config

    def files(self) -> dict[str, str]:
        return {}

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        rows = pair_rows(given.data, str(given.split))
        return probe(given, rows.images, rows.texts)

    def run(self, given: BenchInput) -> Scores:
        if given.layer is not None or given.model is None:
            layers: tuple[str | None, ...] = (given.layer,)
        else:
            layers = given.model.layers
        measured: dict[str, CosineAlignment] = {}
        own: dict[str, np.ndarray] = {}
        for layer in layers:
            pairs = paired(given, layer)
            label = layer or "embeddings"
            measured[label] = cosine_alignment(pairs.images, pairs.texts, pairs.text_image, bins=self.config.bins)
            own[label] = _own_cosines(pairs)
        by = {name: _numbers(alignment) for name, alignment in measured.items()}
        return Scores(
            metrics=by[list(by)[-1]],
            counts={
                "items": len(pairs.images),
                "skipped": pairs.rows.skipped_images,
                "texts": len(pairs.texts),
                "skipped_texts": pairs.rows.skipped_texts,
            },
            by=by,
            items=() if given.metrics_only else _items(Names.of(given, pairs.rows), pairs, own),
            page=[] if given.metrics_only else _page(measured, self.config.bins),
        )


def _numbers(alignment: CosineAlignment) -> dict[str, float]:
    positive, negative = alignment.positive, alignment.negative
    numbers = {"positive_cosine": positive.mean, "positive_cosine_std": positive.std}
    if negative is not None:
        numbers |= {
            "negative_cosine": negative.mean,
            "negative_cosine_std": negative.std,
            "cosine_gap": positive.mean - negative.mean,
        }
    return numbers


def _own_cosines(pairs: Pairs) -> np.ndarray:
    """[m]: each text with its own picture, NaN for a text without."""
    cosines = (pairs.texts * pairs.images[pairs.text_image.clamp(min=0)]).sum(dim=1).numpy()
    return np.where(pairs.text_image.numpy() >= 0, cosines, np.nan)


def _items(names: Names, pairs: Pairs, own: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    for text, image in enumerate(pairs.text_image.tolist()):
        if image >= 0:
            cosines = {layer: float(values[text]) for layer, values in own.items()}
            yield {"text": names.text_ids[text], "image": names.image_ids[image], "cosine": cosines}


def _page(measured: dict[str, CosineAlignment], bins: int) -> list[Block]:
    edges = np.linspace(-1, 1, bins + 1).tolist()
    page: list[Block] = []
    for layer, alignment in measured.items():
        counts = {"own pairs": alignment.positive.histogram}
        if alignment.negative is not None:
            counts["other pairs"] = alignment.negative.histogram
        page.append(Heading(f"Cosines at {layer}"))
        page.append(histogram_figure(counts, edges, "cosine", "Each as shares of its own total."))
    return page
