"""Fine-tuning: the class of each picture, by all of a model or by a head on it as it is (linear probe).

The recipe is BEiT's (layer decay, RandAugment, erasing, mixup and cutmix by timm) with the values of Cares' thesis.
Source: public repository TimCares/EV-LP, src/models/image_classification.py and configs/fine_tuning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from timm.optim import param_groups_layer_decay
from torch.nn import functional as F

from mmkd_cli.core import artifacts, registry
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.labels import COLUMN, same_names
from mmkd_cli.data.rand_augment import RandAugment
from mmkd_cli.data.viewed import ViewedPictures
from mmkd_cli.data.views import ViewSpec
from mmkd_cli.students.image_classifier import ImageClassifier
from mmkd_cli.tasks.labelled_pictures import LabelledPictures, label_names, labelled_pictures
from mmkd_cli.tasks.picture_mixing import MixingConfig, PictureMixing
from mmkd_cli.training import distribution
from mmkd_cli.training.randomness import seed_all

COUNTED = 1000
"""Classes that counting takes a head to have: ImageNet's."""
_SPLITS = ("train", "val")
_OWN = "image-classifier"


class ImageClassificationConfig(MixingConfig):
    """Keys of the task `image-classification`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": _OWN},
        "train": {"epochs": 15, "batch_size": 256, "optimizer": "adamw", "peak_lr": 1e-3, "betas": (0.9, 0.999),
                  "eps": 1e-8, "weight_decay": 0.01, "schedule": "cosine", "warmup_ratio": 0.1},
    }  # fmt: skip
    """[P] epochs, batch, rate; [C] the rest."""

    name: str = key("image-classification", "the task")
    mode: Literal["full", "linear-probe"] = key(
        "full", "what is trained: all, or a norm and a linear layer on the frozen model", source="[P] reports both"
    )
    layer_decay: float = key(
        0.81, "of full: each layer's rate, as a share of that of the layer after it", source="[P] 0.81; CIFAR 0.75",
        gt=0, le=1,
    )  # fmt: skip
    view: ViewSpec = key(ViewSpec(), "crops and flips, drawn anew in each epoch")


class ImageClassification(Trainable):
    """`core.contracts.FinetuneTask` and its `Trainable`."""

    Config: ClassVar[type] = ImageClassificationConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {_OWN: (_OWN, "encoder", "s-smke", "mm-d2v2")}
    weights: ClassVar[Mapping[str, float]] = {"cross_entropy": 1.0}

    def __init__(
        self, model: ImageClassifier, config: ImageClassificationConfig, seed: int,
        feeds: Sequence[LabelledPictures], validation: Sequence[LabelledPictures],
    ) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        assert model.labels is not None
        self.mixing = PictureMixing(config, len(model.labels), seed)
        self.content: Mapping[str, Any] = {"labels": model.labels}
        if config.mode == "linear-probe":
            model.probe()

    # ------------------------------------------------------------------------------------------ task
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Pictures alone."""
        return ()

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """No file beside the model's."""
        return {}

    @classmethod
    def build(
        cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str
    ) -> ImageClassification:  # fmt: skip
        """The model with a head for the labels, feeds of `train` and, where there is one, of `val`."""
        task, seed = config.task, config.train.seed
        every = 2 * distribution.processes()
        if task.mixes and (config.train.batch_size % every or not config.train.drop_last):
            raise UserError(f"pictures are mixed two and two: make train.batch_size {config.train.batch_size} a "
                            f"multiple of {every} and keep train.drop_last, or set task.mixed=0")  # fmt: skip
        names = same_names(data, [label_names(one) for one in data])
        assert names is not None
        seed_all(seed, "new weights")
        model = _model(config.student, start, names)
        transform = model.picture_transform
        change = None
        if task.rand_augment:
            change = RandAugment(task.rand_augment, min(transform.size), transform.mean, transform.interpolation, seed)

        def seen(split: str) -> ViewedPictures:
            if split == "train":
                return ViewedPictures(None, transform, split, seed, task.view, change)
            return ViewedPictures(None, transform, split, seed, None)

        feeds, validation = (
            [labelled_pictures(one, split, names, seen(split)) for one in data if split in (*one.splits, "train")]
            for split in _SPLITS
        )
        return cls(model.to(device), task, seed, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device, of a timm model with ImageNet's classes."""
        model = ImageClassifier.empty(config.student, COUNTED)
        if config.task.mode == "linear-probe":
            model.probe()
        sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
        return Counts(sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained), 0)

    @classmethod
    def writes(cls, config: ImageClassificationConfig) -> Mapping[str, Mapping[str, str]]:
        """Nothing is written."""
        return {}

    # ------------------------------------------------------------------------------------------ trainable
    def prepare(self, batch: Batch) -> Batch:
        """In training, `inputs` [B, 3, H, W] in the place of the pixels, erased and mixed, and `target` [B, C]."""
        if not self.model.training:
            return batch
        inputs = self.model.picture_transform.normalize(batch["pixels"], torch.float32)
        epoch, step = (int(batch[name][0]) for name in ("epoch", "step"))
        inputs, target = self.mixing(inputs, batch[COLUMN], batch["row"], epoch, step)
        return {"inputs": inputs, "target": target, COLUMN: batch[COLUMN]}

    def forward(self, batch: Batch) -> Outputs:
        """Cross-entropy of a row, in training with its target; and whether its likeliest class is the label."""
        logits = self.model.classify_images(batch)
        target = batch.get("target")
        loss = F.cross_entropy(logits, batch[COLUMN] if target is None else target, reduction="none")
        right = (logits.argmax(dim=1) == batch[COLUMN]).float()
        return Outputs({"cross_entropy": loss}, report={"accuracy": right})

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """By layers, whose rates fall towards the input; norms, biases and class tokens without decay."""
        spared = getattr(self.model.model, "no_weight_decay", set)()
        decay = self.config.layer_decay if self.config.mode == "full" else 1.0
        groups = param_groups_layer_decay(self.model.model, weight_decay, spared, layer_decay=decay)
        return [{"params": group["params"], "lr": peak_lr * group["lr_scale"], "weight_decay": group["weight_decay"]}
                for group in groups]  # fmt: skip

    def save(self, folder: Path) -> None:
        """The student writes its own files."""
        self.model.save(folder)


def _model(keys: Any, start: Path | None, names: Sequence[str]) -> ImageClassifier:
    """A timm model, a run's image blocks with a new head, or a classifier that goes on where its classes are these."""
    if start is None:
        return ImageClassifier.build(keys, names, None)
    table = artifacts.read(start).plan["config"]
    found = registry.load("students", table["student"]["name"]).load(start, table)
    if not isinstance(found, ImageClassifier):
        return ImageClassifier.build(keys, names, found.image_encoder())
    if found.labels != list(names):
        found.new_labels(names)
    return found
