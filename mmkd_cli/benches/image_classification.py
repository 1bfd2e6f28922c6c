"""What a classifier says of pictures with classes: a run of `finetune --task image-classification`, a timm model, or
ready logits. A class that scores as high as the right one makes the item wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches.classified import Task, classification_scores, ranked
from mmkd_cli.benches.embeddings_file import float_array, integer_array
from mmkd_cli.benches.own_tables import OwnData, Texts
from mmkd_cli.core import console
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.batches import batches
from mmkd_cli.data.labels import COLUMN, read_labels

LAYOUT = "logits [n, classes] and label [n] (integers from 0)"
_PROBED = 2
"""Batches of which a dry run estimates the time of all."""


class ImageClassificationConfig(Config):
    """Keys of this bench."""

    name: str = key("image-classification", "the bench")
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(12, "items of each sort on the page: wrong and right", source="[U]", identity=False, ge=0)


class ImageClassification:
    """`acc1`, `acc5` (from five classes on), `mean_per_class_recall`: percent (`core.contracts.Bench`)."""

    Config: ClassVar[type] = ImageClassificationConfig
    default_split: ClassVar[str] = "test"
    needs_data: ClassVar[bool] = True
    matching: ClassVar[bool] = False
    asks: ClassVar[str] = "classify_images"

    def __init__(self, config: ImageClassificationConfig) -> None:
        self.config = config

    def files(self) -> Mapping[str, str]:
        return {}

    # ---------------------------------------------------------------------------------------- what is classified
    def _task(self, given: BenchInput) -> Task:
        """The labelled pictures; labels are classes as the model has them."""
        model: Any = given.model
        if given.data is None or given.split is None or model is None:
            raise UserError("there is nothing to score: give --model and --data with labels, or --embeddings")
        table, where = given.data.table("images", given.split), f"{given.data.artifact.label}, {given.split}"
        if COLUMN not in table.column_names:
            raise UserError(f"{where}: its pictures have no column {COLUMN!r}: name data with labels by --data")
        names, values = read_labels(table, where, model.labels)
        if names is None:
            raise UserError(f"{where}: labels are numbers to be met, not classes")
        known = model.labels or names
        if sorted(known) != sorted(names) or model.classes != len(names):
            raise UserError(f"{where}: its {len(names)} labels ({names[0]}, ...) are not the model's {model.classes}: "
                            "name a model that was trained for these")  # fmt: skip
        usable = np.isfinite(values)
        usable[given.data.rejected(given.split, "images")] = False
        rows = np.flatnonzero(usable)
        if not len(rows):
            raise UserError(f"{where}: no picture has a label: choose another --split")
        to_own = np.array([known.index(name) for name in names])
        labels = to_own[values[rows].astype(np.int64)]
        return Task(OwnData(table, Texts(())), given.split, rows, labels, known, len(table) - len(rows))

    # ---------------------------------------------------------------------------------------- scoring
    def estimate(self, given: BenchInput) -> tuple[int, float]:
        task = self._task(given)
        probed = task.rows[: _PROBED * given.batch_size]
        began = time.perf_counter()
        list(_said(given, task, probed))
        return len(task.rows), (time.perf_counter() - began) / len(probed) * len(task.rows)

    def run(self, given: BenchInput) -> Scores:
        if given.embeddings is not None:
            task, logits = _ready(given.embeddings)
            parts = [logits]
        else:
            task = self._task(given)
            parts = [*_said(given, task, task.rows)]
        labels = torch.from_numpy(task.labels).split([len(part) for part in parts])
        found = ranked(zip(parts, labels, strict=True))
        return classification_scores(task, found, self.config, given.metrics_only, "logits")


def _said(given: BenchInput, task: Task, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Logits [b, classes], float32, on the CPU, a batch at a time."""
    model: Any = given.model
    cut: Sequence[NDArray[np.int64]] = np.split(rows, range(given.batch_size, len(rows), given.batch_size))
    source = batches(task.data.images, "images", cut, transform=model.picture_transform, workers=given.workers)
    lowered = torch.autocast(given.device.partition(":")[0], torch.bfloat16, enabled=given.precision == "bfloat16")
    with torch.no_grad(), lowered, console.progress("classifying pictures", len(rows), "images") as meter:
        for batch in source:
            logits = model.classify_images({"pixels": batch["pixels"].to(given.device)}).float().cpu()
            meter.advance(len(logits))
            yield logits


def _ready(arrays: Mapping[str, NDArray[np.generic]]) -> tuple[Task, Tensor]:
    logits = float_array(arrays, "logits", "n classes", LAYOUT)
    labels = integer_array(arrays, "label", len(logits), LAYOUT)
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise UserError(
            f"embeddings: label holds {labels.min()} to {labels.max()}, logits has {logits.shape[1]} classes: count "
            "from 0"
        )
    names = [f"class {number}" for number in range(logits.shape[1])]
    return Task(None, "", np.arange(len(logits)), labels, names), torch.from_numpy(logits)
