"""Scores in the layout of CLIP_benchmark's result files, for tools that read those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DATASETS = {
    "coco-retrieval": "mscoco_captions",
    "flickr30k-retrieval": "flickr30k",
    "flickr8k-retrieval": "flickr8k",
}
_METRICS = {"text_to_image_recall": "image_retrieval_recall", "image_to_text_recall": "text_retrieval_recall"}
_CLASSIFICATION = ("acc1", "acc5", "mean_per_class_recall")


def clip_benchmark_layout(document: Mapping[str, Any], data: str | None) -> dict[str, Any] | None:
    """dataset, model, pretrained, task, metrics (shares, not percent), language; None for what it has no task for."""
    metrics = {
        f"{_METRICS[name]}@{k}": value / 100
        for full, value in document["metrics"].items()
        for name, _, k in [full.partition("@")]
        if name in _METRICS
    }
    task = "zeroshot_retrieval"
    if document["bench"] == "zeroshot-classification":
        metrics = {name: document["metrics"][name] / 100 for name in _CLASSIFICATION if name in document["metrics"]}
        task = "zeroshot_classification"
    if not metrics:
        return None
    library, _, rest = str(document["model"]["name"]).partition(":")
    arch, _, weights = rest.partition(":")
    of_library = library == "open_clip"
    return {
        "dataset": _DATASETS.get(document["bench"], data or "embeddings"),
        "model": arch if of_library else document["model"]["name"],
        "pretrained": weights if of_library else document["model"]["kind"],
        "task": task,
        "metrics": metrics,
        "language": "en",
    }
