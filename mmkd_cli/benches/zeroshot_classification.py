"""Zero-shot classification: a picture's nearest class, each class the mean of its name in several templates.

As CLIP_benchmark scores it: prompts are embedded, normalised, averaged over templates and normalised again. A class
that scores as high as the right one makes the item wrong, where CLIP_benchmark takes the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches import class_names
from mmkd_cli.benches.class_pictures import read_set, set_files
from mmkd_cli.benches.classified import Ranked, Task, classification_scores, ranked
from mmkd_cli.benches.embedding import embed_images, embed_texts, normalized, probe
from mmkd_cli.benches.embeddings_file import float_array, integer_array
from mmkd_cli.benches.own_tables import OwnData, Texts
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.retrieval import dot_products

LAYOUT = "image [n, d], text [classes, d] or [classes, templates, d], and label [n] (integers from 0)"

_IMAGES_AT_ONCE = 1024


class ZeroShotClassificationConfig(Config):
    """Keys of this bench."""

    name: str = key("zeroshot-classification", "the bench")
    set: str | None = key(
        None, "cifar10, cifar100, imagenet1k or a set of CLIP_benchmark: its templates, and how --images is read",
        source="[U] none: the data's own",
    )  # fmt: skip
    images: str | None = key(
        None, "the set's own pictures, in place of prepared data: CIFAR's files, or class folders", source="[U]",
        identity=False,
    )  # fmt: skip
    classes: str | None = key(
        None, "names of the classes: lines or JSON, in the labels' order or by label", source="[U] the data's own",
        identity=False,
    )  # fmt: skip
    templates: str | None = key(
        None, "a set's name, openai (ImageNet's 80) or simple (7)",
        source="[C] CLIP_benchmark: the set's, else ImageNet's",
    )  # fmt: skip
    template_file: str | None = key(
        None, "templates of your own: lines or a JSON list, each with {c}", source="[U]", identity=False
    )
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(12, "items of each sort on the page: wrong and right", source="[U]", identity=False, ge=0)


class ZeroShotClassification:
    """`acc1`, `acc5` (from five classes on), `mean_per_class_recall`: percent."""

    Config: ClassVar[type] = ZeroShotClassificationConfig
    default_split: ClassVar[str] = "test"
    source: ClassVar[str] = "image-folder"
    matching: ClassVar[bool] = False

    def __init__(self, config: ZeroShotClassificationConfig) -> None:
        self.config = config

    @property
    def needs_data(self) -> bool:
        """Unless the set's own pictures are named."""
        return self.config.images is None

    def files(self) -> dict[str, str]:
        config = self.config
        found = set_files(config.images, config.set) if config.images is not None else {}
        if config.classes is not None:
            found["classes"] = config.classes
        if config.template_file is not None:
            found["template_file"] = config.template_file
        return found

    @cached_property
    def templates(self) -> list[str]:
        if self.config.template_file is not None:
            return class_names.templates_from(self.config.template_file)
        return class_names.templates(self.config.templates or self.config.set or "openai")

    # ---------------------------------------------------------------------------------------- what is classified
    def _task(self, given: BenchInput) -> Task:
        if self.config.images is not None:
            found = read_set(self.config.images, self.config.set)
            labels, names = self._named(found.labels, found.classes)
            rows = np.arange(len(labels))
            return Task(OwnData(found.pictures, Texts(())), self.default_split, rows, labels, names)
        if given.data is None or given.split is None:
            raise UserError("there is nothing to score: give --model and --data (or --images), or --embeddings")
        table = given.data.table("images", given.split)
        if "label" not in table.features:
            raise UserError(
                f"{given.data.artifact.label} has no classes: prepare class folders (--source image-folder), or name "
                "a set's own files by --images"
            )
        rejected = given.data.rejected(given.split, "images")
        rows = np.delete(np.arange(len(table)), rejected)
        if not len(rows):
            raise UserError(f"split {given.split!r} has no picture to score: choose another --split")
        labels = np.asarray(table.with_format("numpy")["label"][:], np.int64)[rows]
        labels, names = self._named(labels, table.features["label"].names)
        return Task(OwnData(table, Texts(())), given.split, rows, labels, names, len(rejected))

    def _named(self, labels: NDArray[np.int64], classes: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
        """The classes by the names that prompts are made of."""
        if self.config.classes is not None:
            return labels, class_names.names_from(self.config.classes, classes)
        if self.config.set == "imagenet1k":
            return class_names.imagenet(labels, classes)
        return labels, list(classes)

    def _prompted(self, task: Task) -> OwnData:
        prompts = [class_names.fill(template, name) for name in task.names for template in self.templates]
        return OwnData(task.data.images, Texts(prompts))

    # ---------------------------------------------------------------------------------------- scoring
    def estimate(self, given: BenchInput) -> tuple[int, float]:
        task = self._task(given)
        own = replace(given, data=self._prompted(task), split=task.split)
        return probe(own, task.rows, np.arange(len(own.data.texts)))

    def run(self, given: BenchInput) -> Scores:
        if given.embeddings is not None:
            if self.config.images is not None:
                raise UserError("--embeddings takes the place of --images: leave one of them out")
            task, images, classes = self._ready(given.embeddings)
        else:
            task = self._task(given)
            own = replace(given, data=self._prompted(task), split=task.split)
            images = embed_images(own, task.rows, given.layer)
            prompts = embed_texts(own, np.arange(len(own.data.texts)), given.layer)
            classes = class_vectors(prompts.view(len(task.names), len(self.templates), -1))
        found = classified(images, classes, torch.from_numpy(task.labels))
        return classification_scores(task, found, self.config, given.metrics_only)

    def _ready(self, arrays: Mapping[str, NDArray[np.generic]]) -> tuple[Task, Tensor, Tensor]:
        image = float_array(arrays, "image", "n d", LAYOUT)
        axes = "classes templates d" if getattr(arrays.get("text"), "ndim", 2) == 3 else "classes d"
        text = float_array(arrays, "text", axes, LAYOUT)
        labels = integer_array(arrays, "label", len(image), LAYOUT)
        if image.shape[1] != text.shape[-1]:
            raise UserError(
                f"embeddings: image is {image.shape[1]} wide, text {text.shape[-1]}: give both of one width"
            )
        if labels.min() < 0 or labels.max() >= len(text):
            raise UserError(
                f"embeddings: label holds {labels.min()} to {labels.max()}, text has {len(text)} classes: count from 0"
            )
        if self.config.classes is not None:
            names = class_names.names_from(self.config.classes, [str(number) for number in range(len(text))])
        else:
            names = [f"class {number}" for number in range(len(text))]
        prompts = torch.from_numpy(text).reshape(len(text), -1, text.shape[-1])
        vectors = class_vectors(normalized(prompts.flatten(0, 1)).view_as(prompts))
        task = Task(None, "", np.arange(len(image)), labels, names)
        return task, normalized(torch.from_numpy(image)), vectors


def class_vectors(prompts: Tensor) -> Tensor:
    """prompts [classes, templates, d], each of length 1 -> [classes, d], of length 1."""
    return F.normalize(prompts.mean(dim=1), dim=1)


def classified(images: Tensor, classes: Tensor, labels: Tensor) -> Ranked:
    """images [n, d], classes [c, d], labels [n] -> by cosine. Memory is a block of pictures against all classes."""
    double = torch.float64 in (images.dtype, classes.dtype)
    images, classes = (rows.double() if double else rows for rows in (images, classes))
    blocks = zip(images.split(_IMAGES_AT_ONCE), labels.split(_IMAGES_AT_ONCE), strict=True)
    return ranked((dot_products(image, classes), label) for image, label in blocks)
