"""Regress the teacher's CLS vector of the picture, from the picture and from its caption (MM-D2V2).

The loss of F to I and C is the unweighted sum of the mean squared errors of the student's modalities; of D and L it is
half of that, and the contrastive loss of the projected vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import signal_width
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.logit_scale import clamp_logit_scale_
from mmkd_cli.losses.regression import cls_regression_per_row
from mmkd_cli.methods.pairs import PairFeed, captions, pair_feed, signal_statistics
from mmkd_cli.students.alignment import Aligned
from mmkd_cli.students.projections import Heads, Layout
from mmkd_cli.training.randomness import seed_all


class ClsRegressionConfig(Config):
    """Keys of the method `cls-regression`."""

    name: str = key("cls-regression", "the method")
    signal: str = key("image_cls", "teacher signal of the picture that is regressed", source="[P] MM-D2V2: the CLS")
    regression_weight: float | None = key(
        None, "weight of each modality's regression; 0 leaves it out (None: 1, beside a contrastive term 1/2)",
        source="[C] MM-D2V2: the sum, halved beside the contrastive loss", ge=0,
    )  # fmt: skip
    contrastive_weight: float = key(0.0, "weight of the contrastive loss; 0 leaves it out", source="[P] D, L: 1", ge=0)
    layout: Layout = key(
        "clip", "what the contrastive loss projects: clip, a map a modality on the student's output; flava, the same "
        "on the encoders before shared blocks; vlmo, both; shared, one map for both modalities on the output",
        source="[S] MM-D2V2 compares the four",
    )  # fmt: skip
    projection_dim: int | None = key(
        None, "width of the contrastive space (None: the teacher's)", source="[C] MM-D2V2: 768 to 768", ge=1
    )
    dedup: bool = key(
        False, "captions of one picture in a batch are not each other's negatives",
        source="[C] MM-D2V2 accepts these false negatives",
    )  # fmt: skip
    clamp_logit_scale: bool = key(
        False, "bound the logit scale by 100 after each step", source="[C] MM-D2V2: not in 2024-06, later it is"
    )
    wd_rule: Literal["all", "notes", "embeddings"] = key(
        "notes", "what weight decay leaves out: all, nothing; notes, vectors, biases, the image's CLS and the text "
        "embedding table; embeddings, vectors, biases, the CLS and every embedding table",
        source="[C] MM-D2V2: all until 2024-06-15, notes from then on, embeddings in the thesis",
    )  # fmt: skip

    head_lr_scale: float = key(
        1.0, "learning rate of the heads (regression, projections, logit scale), times train.peak_lr",
        source="[C] MM-D2V2: one rate; beside a pretrained encoder new heads want more", gt=0, absent=1.0,
    )  # fmt: skip

    @property
    def heads(self) -> Heads:
        """What the student carries beside its encoders."""
        contrastive = self.contrastive_weight > 0
        return Heads(
            regression=self.regression_weight != 0,
            layout=self.layout if contrastive else None,
            dim=self.projection_dim if contrastive else None,
        )

    @property
    def each_regression(self) -> float:
        """The weight of one modality's regression."""
        if self.regression_weight is not None:
            return self.regression_weight
        return 0.5 if self.contrastive_weight > 0 else 1.0


class ClsRegression(Trainable):
    """`core.contracts.Method` and its `Trainable`."""

    Config: ClassVar[type] = ClsRegressionConfig

    def __init__(self, model: nn.Module, config: ClsRegressionConfig, feeds: Sequence[PairFeed],
                 validation: Sequence[PairFeed]) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        stages = model.projections.stages if model.projections is not None else ()
        self.weights: Mapping[str, float] = {
            "regression_image": config.each_regression,
            "regression_text": config.each_regression,
            **{_term(stage): config.contrastive_weight / len(stages) for stage in stages},
        }

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The one signal that is regressed."""
        return (config.method.signal,)

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> ClsRegression:
        """Student with its first weights on the device, feeds of `train` and, where there is one, of `val`."""
        method, keys = config.method, config.student
        heads = _checked(method)
        student_class = _student_class(keys.name)
        widths = {one.name: signal_width(one, method.signal) for one in data}
        if len(set(widths.values())) > 1:
            raise UserError(f"signal {method.signal!r} has several widths ({widths}): use one teacher's caches")
        seed_all(config.train.seed, "new weights")
        student = student_class.build(
            keys, heads, method.signal, next(iter(widths.values())),
            lambda: (text for one in data for text in captions(one, "train")),
        )  # fmt: skip
        transform = student.picture_transform if student.needs_pictures else None
        feeds, validation = (
            [pair_feed(one, split, method.signal, student.tokenize, transform, number)
             for number, one in enumerate(data) if split in one.splits or split == "train"]
            for split in ("train", "val")
        )  # fmt: skip
        if student.standardize:
            student.set_statistics(*signal_statistics(feeds))
        return cls(student.to(device), method, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device; the teacher's beside them."""
        if teacher is None:
            raise UserError("the student's width comes from its teacher: name one ([teacher] name=..., or a cache)")
        method = config.method
        offered = teacher.signals()
        if method.signal not in offered:
            raise UserError(f"teacher gives no signal {method.signal!r}{nearest(method.signal, offered)}")
        student_class = _student_class(config.student.name)
        student = student_class.empty(config.student, _checked(method), method.signal, offered[method.signal].shape[-1])
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in student.parameters()]
        trainable = sum(size for size, trained in sizes if trained)
        return Counts(sum(size for size, _ in sizes), trainable, teacher.parameters_count())

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> file, folder or hub id whose content decides the run's first weights."""
        return _student_class(config.student.name).files(config.student)

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """Regression losses row by row, projections for the contrastive loss, and the cosine of each pair."""
        said: Aligned = self.model(batch)
        outputs = Outputs()
        for modality, vectors in said.regressed.items():
            outputs.row_losses[f"regression_{modality}"] = cls_regression_per_row(vectors, said.target)
        for stage, (image, text) in said.contrasted.items():
            outputs.gathered[f"image_{stage}"], outputs.gathered[f"text_{stage}"] = image, text
        if said.contrasted and self.config.dedup:
            outputs.gathered["picture"] = batch["picture"]
        if said.image.shape == said.text.shape:
            cosine = F.cosine_similarity(said.image.detach().float(), said.text.detach().float(), dim=1)
            outputs.report["positive_cosine"] = cosine
        return outputs

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The contrastive loss of each projected stage, over the global batch."""
        if self.model.projections is None:
            return {}
        scales = self.model.projections.logit_scales
        ids = gathered.get("picture")
        return {
            _term(stage): info_nce(gathered[f"image_{stage}"], gathered[f"text_{stage}"], scale.exp(), ids)
            for stage, scale in scales.items()
        }

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        """Bound the logit scales, where told to."""
        if self.config.clamp_logit_scale and self.model.projections is not None:
            for scale in self.model.projections.logit_scales.values():
                clamp_logit_scale_(scale)

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups by the weight-decay rule, of the heads and of the rest; a logit scale counts as a vector."""
        named = self.model.parts_without_decay()
        spared = {id(p) for p in named["image_cls"]}
        spared |= {id(p) for p in named["embeddings" if self.config.wd_rule == "embeddings" else "text_embedding"]}
        parts = [part for part in (self.model.projections, self.model.head) if part is not None]
        heads = {id(parameter) for part in parts for parameter in part.parameters()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                kept = self.config.wd_rule == "all" or (parameter.ndim > 1 and id(parameter) not in spared)
                scale = self.config.head_lr_scale if id(parameter) in heads else 1.0
                groups.setdefault((scale, weight_decay if kept else 0.0), []).append(parameter)
        ordered = sorted(groups.items(), key=lambda group: (group[0][0], -group[0][1]))
        return [{"params": params, "lr": peak_lr * scale, "weight_decay": decay}
                for (scale, decay), params in ordered]  # fmt: skip

    def save(self, folder: Path) -> None:
        """The student writes model/ and heads.safetensors."""
        self.model.save(folder)


def _student_class(name: str) -> Any:
    found = registry.load("students", name)
    if not hasattr(found, "needs_pictures"):
        raise UserError(f"cls-regression does not train the student {name!r}: name unimodal or mm-d2v2")
    return found


def _term(stage: str) -> str:
    """The name of a stage's contrastive loss."""
    return "contrastive" if stage == "output" else f"contrastive_{stage}"


def _checked(config: ClsRegressionConfig) -> Heads:
    heads = config.heads
    if not heads.regression and heads.layout is None:
        raise UserError("method.regression_weight and method.contrastive_weight are both 0: nothing would be learnt")
    return heads
