"""Regress the teacher's CLS vector of the picture, from the picture and from its caption (MM-D2V2).

The loss of F to I and C is the unweighted sum of the mean squared errors of the student's modalities; of D and L it is
half of that, and the contrastive loss of the projected vectors. S-SMKE contrasts each modality with the CLS instead of
regressing it (`target_loss`); both contrasts may see vectors of earlier batches (`bank`, `target_bank`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import signal_width
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.logit_scale import clamp_logit_scale_
from mmkd_cli.losses.regression import cls_regression_per_row
from mmkd_cli.losses.soft_labels import soft_label_kl_per_row
from mmkd_cli.losses.target_cmli import patch_regression_per_row, word_patch_per_row
from mmkd_cli.methods.cls_regression_config import ClsRegressionConfig
from mmkd_cli.methods.contrast_memory import MODALITIES, PART, BankConfig, ContrastMemory, left_behind
from mmkd_cli.methods.pairs import PairFeed, captions, pair_feed, signal_statistics
from mmkd_cli.students.alignment import Aligned
from mmkd_cli.students.projections import Heads
from mmkd_cli.training.randomness import seed_all

TARGET_TERMS = {
    "mse": "regression", "contrastive-target": "contrastive_target", "kl": "kl", "target-cmli": "target_cmli",
}  # fmt: skip


class ClsRegression(Trainable):
    """`core.contracts.Method` and its `Trainable`."""

    Config: ClassVar[type] = ClsRegressionConfig
    of_other_teachers: ClassVar[tuple[str, ...]] = ("init_image", "init_text")

    def __init__(self, model: nn.Module, config: ClsRegressionConfig, feeds: Sequence[PairFeed],
                 validation: Sequence[PairFeed]) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        stages = model.projections.stages if model.projections is not None else ()
        self.memory: ContrastMemory | None = getattr(model, PART, None)
        self.contrasts_target = config.target_loss == "contrastive-target"
        self.weights: Mapping[str, float] = {
            **{_target_term(config, modality): config.each_regression for modality in MODALITIES},
            **{_term(stage): config.contrastive_weight / len(stages) for stage in stages},
        }

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The one signal that is regressed; none where nothing is, and the student reads pictures itself."""
        alone = config.method.regression_weight == 0 and _student_class(config.student.name).needs_pictures
        return () if alone else (config.method.signal,)

    @classmethod
    def if_cached(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Without distillation a cache that is named gives the views that its teacher saw."""
        return (config.method.signal,)

    @classmethod
    def runs(cls, config: Any) -> dict[str, str]:
        """Runs of one modality whose blocks the student begins with."""
        keys = ((name, getattr(config.student, name, None)) for name in cls.of_other_teachers)
        return {f"student.{name}": run for name, run in keys if run is not None}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> ClsRegression:
        """Student with its first weights on the device, feeds of `train` and, where there is one, of `val`."""
        method, keys = config.method, config.student
        heads = _checked(method)
        student_class = _student_class(keys.name)
        alone = not heads.regression and student_class.needs_pictures
        taught = [one for one in data if not alone or one.targets("train") is not None]
        axes = 2 if method.target_loss == "target-cmli" else 1
        widths = {one.name: signal_width(one, method.signal, axes) for one in taught}
        if len(set(widths.values())) > 1:
            raise UserError(f"signal {method.signal!r} has several widths ({widths}): use one teacher's caches")
        seed_all(config.train.seed, "new weights")
        student = student_class.build(
            keys, heads, method.signal, keys.width if alone else next(iter(widths.values())),
            lambda: (text for one in data for text in captions(one, "train")),
        )  # fmt: skip
        transform = student.picture_transform if student.needs_pictures else None
        feeds, validation = (
            [pair_feed(one, split, method.signal if one in taught else None, student.tokenize, transform, number)
             for number, one in enumerate(data) if split in one.splits or split == "train"]
            for split in ("train", "val")
        )  # fmt: skip
        if student.standardize:
            student.set_statistics(*signal_statistics(feeds))
        _remember(student, method)
        return cls(student.to(device), method, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device; the teacher's beside them."""
        method, student_class = config.method, _student_class(config.student.name)
        heads = _checked(method)
        if not heads.regression and student_class.needs_pictures:
            width = config.student.width
        else:
            width = _offered_width(teacher, method.signal)
        student = student_class.empty(config.student, heads, method.signal, width)
        with torch.device("meta"):
            _remember(student, method)
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in student.parameters()]
        trainable = sum(size for size, trained in sizes if trained)
        return Counts(sum(size for size, _ in sizes), trainable, teacher.parameters_count() if teacher else 0)

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
            assert said.target is not None, "what is distilled has a teacher"
            term = _target_term(self.config, modality)
            if self.config.target_loss == "target-cmli":
                outputs.row_losses[term] = self._by_tokens(modality, vectors, said.target, batch)
            elif self.contrasts_target:
                outputs.gathered[f"regressed_{modality}"], outputs.gathered["target"] = vectors, said.target
            else:
                loss = soft_label_kl_per_row if self.config.target_loss == "kl" else cls_regression_per_row
                outputs.row_losses[term] = loss(vectors, said.target)
        for stage, (image, text) in said.contrasted.items():
            outputs.gathered[f"image_{stage}"], outputs.gathered[f"text_{stage}"] = image, text
        if self.memory is not None:
            outputs.gathered |= self.memory.keys(batch)
        if outputs.gathered and self.config.dedup:
            outputs.gathered["picture"] = batch["picture"]
        if said.image.shape == said.text.shape:
            cosine = F.cosine_similarity(said.image.detach().float(), said.text.detach().float(), dim=1)
            outputs.report["positive_cosine"] = cosine
        return outputs

    def _by_tokens(self, modality: str, tokens: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """Of pictures patch by patch; of texts word by word, which stand between the first token and the last."""
        assert self.memory is not None and self.memory.token_map is not None
        patches = target[:, 1:]
        if modality == "image":
            return patch_regression_per_row(tokens[:, 1:], patches)
        mask = batch["attention_mask"].bool()
        words = mask & mask.roll(-1, dims=1)
        words[:, -1] = False
        own = words[:, 1 : tokens.shape[1]].to(tokens.device)
        token_map = self.memory.token_map
        return word_patch_per_row(token_map(tokens[:, 1:]), token_map(patches), own)

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The contrastive losses over the global batch: of each projected stage, and of each modality and its target.

        Banks are of training; in validation a batch stands alone.
        """
        ids, scale = gathered.get("picture"), self.config.target_scale
        banks = self.model.training
        losses: dict[str, Tensor] = {}
        if self.model.projections is not None:
            for stage, log_scale in self.model.projections.logit_scales.items():
                if self.memory is not None and self.memory.banks:
                    losses[_term(stage)] = self.memory.contrast(stage, gathered, log_scale.exp(), ids, banks)
                else:
                    image, text = (gathered[f"{modality}_{stage}"] for modality in MODALITIES)
                    losses[_term(stage)] = info_nce(image, text, log_scale.exp(), ids)
        for modality in MODALITIES:
            if f"regressed_{modality}" in gathered:
                assert self.memory is not None
                losses[_target_term(self.config, modality)] = self.memory.target(
                    gathered[f"regressed_{modality}"], gathered["target"], scale, ids, banks
                )
        return losses

    def before_step(self, step: int) -> None:
        """What of the banks depends on the step."""
        if self.memory is not None:
            self.memory.before_step(step)

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        """Fill the banks; bound the logit scales, where told to."""
        if self.memory is not None:
            self.memory.after_step(self.model, gathered, gathered.get("picture"))
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
        with left_behind(self.model):
            self.model.save(folder)


def _student_class(name: str) -> Any:
    found = registry.load("students", name)
    if not hasattr(found, "needs_pictures"):
        raise UserError(f"cls-regression does not train the student {name!r}: name unimodal, mm-d2v2, mm-beit2 or "
                        "s-smke")  # fmt: skip
    return found


def _offered_width(teacher: Teacher | None, signal: str) -> int:
    """Width of a teacher's signal."""
    if teacher is None:
        raise UserError("the student's width comes from its teacher: name one ([teacher] name=..., or a cache)")
    offered = teacher.signals()
    if signal not in offered:
        raise UserError(f"teacher gives no signal {signal!r}{nearest(signal, offered)}")
    return offered[signal].shape[-1]


def _remember(student: Any, config: ClsRegressionConfig) -> None:
    """Give the student the memory that its losses need, if they need one."""
    contrasts = config.target_loss == "contrastive-target"
    if config.target_bank and not contrasts:
        raise UserError("method.target_bank is of method.target_loss=contrastive-target: leave it out, or set that")
    if contrasts and config.regression_weight == 0:
        raise UserError("method.target_loss=contrastive-target learns nothing with method.regression_weight=0: set "
                        "method.target_loss=mse and method.target_bank=0")  # fmt: skip
    if config.bank.size and student.projections is None:
        raise UserError("method.bank is of a contrastive loss: set method.contrastive_weight, or leave the bank out")
    by_tokens = config.target_loss == "target-cmli"
    if by_tokens and not getattr(student, "regresses_tokens", False):
        raise UserError("method.target_loss=target-cmli needs a student that gives all its tokens: name s-smke")
    if contrasts or by_tokens or config.bank.size:
        student.memory = ContrastMemory(
            student, config.bank, student.projections.dims if student.projections is not None else {},
            teacher_width=student.target_width, teacher=(config.target_bank, config.target_bank_start),
            log_scale=math.log(config.target_scale) if contrasts and config.train_target_scale else None,
            token_map=(student.target_width, config.cmli_width) if by_tokens else None,
        )  # fmt: skip


def _target_term(config: ClsRegressionConfig, modality: str) -> str:
    """The name of the loss of a modality and the teacher's signal."""
    return f"{TARGET_TERMS[config.target_loss]}_{modality}"


def _term(stage: str) -> str:
    """The name of a stage's contrastive loss."""
    return "contrastive" if stage == "output" else f"contrastive_{stage}"


def _checked(config: ClsRegressionConfig) -> Heads:
    heads = config.heads
    if not heads.regression and heads.layout is None:
        raise UserError("method.regression_weight and method.contrastive_weight are both 0: nothing would be learnt")
    if not config.bank.size and config.bank != BankConfig():
        raise UserError("method.bank's keys have no effect without banks: set method.bank.size")
    return heads
