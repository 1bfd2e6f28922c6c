"""Teach BART to see: knowledge of CLIP's towers goes into a language model that stays one (VLKD).

Dai, Hou, Shang, Jiang, Liu, Fung, Findings of ACL 2022. L = a TTDM + b ITCL + c ICTI: e, the caption's vector by BART's
encoder and W_e, comes near CLIP's own (TTDM) and to the picture's among the batch (ITCL); the decoder writes a masked
caption back, beside the picture (ICTI). No public code of the paper is known; what its opening pages leave open is a
key.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import signal_width
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.infilling import infilling_per_row
from mmkd_cli.losses.text_distance import text_distance_per_row
from mmkd_cli.methods.pairs import pair_feed
from mmkd_cli.methods.vlkd_config import VlkdConfig
from mmkd_cli.methods.vlkd_feed import InfillingFeed, Masking
from mmkd_cli.students.bart import Bart, Maps
from mmkd_cli.training.optim import decay_groups
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")


class Vlkd(Trainable):
    """`core.contracts.Method` and its `Trainable`."""

    Config: ClassVar[type] = VlkdConfig

    def __init__(self, model: Bart, config: VlkdConfig, feeds: Sequence[InfillingFeed],
                 validation: Sequence[InfillingFeed]) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self.weights: Mapping[str, float] = {
            "ttdm": config.ttdm_weight, "itcl": config.itcl_weight, "icti": config.icti_weight
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The picture's vector, and the caption's where TTDM compares with it."""
        method = config.method
        return (method.image_signal, *((method.text_signal,) if method.ttdm_weight > 0 else ()))

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> Vlkd:
        """BART with its weights, new maps, and feeds of `train` and, where there is one, of `val`."""
        method, seed = config.method, config.train.seed
        signals = cls.signals(config, ())
        widths = {f"{signal} of {one.name}": signal_width(one, signal) for one in data for signal in signals}
        if len(set(widths.values())) > 1:
            raise UserError(f"the teacher's vectors have several widths ({widths}): use one teacher's joint space")
        seed_all(seed, "new weights")
        student = _student_class(config).build(config.student, _maps(method, next(iter(widths.values()))))
        tokenizer = student.fixed_length

        def feed(number: int, one: TrainingData, split: str) -> InfillingFeed:
            pairs = pair_feed(one, split, method.image_signal, tokenizer, None, number)
            masking = Masking(method.mask_ratio, method.span_length, method.mask_whole, seed, f"{split}.{number}")
            return InfillingFeed(pairs, masking, tokenizer.tokenizer, signals[1] if len(signals) > 1 else None)

        feeds, validation = (
            [feed(number, one, split) for number, one in enumerate(data)
             if split == "train" or (split in one.splits and one.targets(split) is not None)]
            for split in _SPLITS
        )  # fmt: skip
        return cls(student.to(device), method, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device: BART with the maps; the teacher's beside them."""
        if teacher is None:
            raise UserError("the maps' width comes from the teacher: name one ([teacher] name=..., or a cache)")
        signal, offered = config.method.image_signal, teacher.signals()
        if signal not in offered:
            raise UserError(f"teacher gives no signal {signal!r}{nearest(signal, offered)}")
        student = _student_class(config).empty(config.student, _maps(config.method, offered[signal].shape[-1]))
        sizes = {name: sum(p.numel() for p in part) for name, part in student.parts().items() if part}
        total = sum(sizes.values())
        return Counts(total, total, teacher.parameters_count(), {name: (size, size) for name, size in sizes.items()})

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> folder or hub id whose content decides BART's first weights."""
        return _student_class(config).files(config.student)

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """Distance and infilling row by row; the two vectors of each pair for the contrastive loss."""
        config = self.config
        # in training, a pass without gradients is asked for its embeddings alone: the decoder can be left out
        writes = config.icti_weight > 0 and (torch.is_grad_enabled() or not self.model.training)
        embeds = config.ttdm_weight > 0 or config.itcl_weight > 0
        said = self.model(batch, embeds=embeds, writes=writes, share_pass=config.share_pass and embeds)
        outputs, image = Outputs(), batch[config.image_signal]
        if said.text is not None and config.ttdm_weight > 0:
            outputs.row_losses["ttdm"] = text_distance_per_row(
                said.text, batch[config.text_signal], normalize=config.normalize, reduction=config.reduction
            )
        if said.text is not None and config.itcl_weight > 0:
            outputs.gathered = {"image": image, "text": said.text}
            if config.dedup:
                outputs.gathered["picture"] = batch["picture"]
        if said.logits is not None:
            outputs.row_losses["icti"] = infilling_per_row(said.logits, said.labels, said.mask, config.label_smoothing)
        return outputs

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The contrastive loss over the global batch."""
        if not gathered:
            return {}
        learnt = self.model.log_scale
        scale = 1 / self.config.temperature if learnt is None else learnt.exp()
        return {"itcl": info_nce(gathered["image"], gathered["text"], scale, gathered.get("picture"))}

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """BART's matrices, its tables, norms and biases without decay, and the maps at a rate of their own."""
        parts, fast = self.model.parts(), peak_lr * self.config.map_lr_scale
        return [
            *decay_groups(self.model, parts["bart"], peak_lr, weight_decay),
            *decay_groups(self.model, [*parts["maps"], *parts["scale"]], fast, weight_decay),
        ]

    def save(self, folder: Path) -> None:
        """The student writes model/ and heads.safetensors."""
        self.model.save(folder)


def _student_class(config: Any) -> Any:
    found = registry.load("students", config.student.name)
    if not hasattr(found, "memory"):
        raise UserError(
            f"vlkd teaches a BART, not the student {config.student.name!r}: name one by --student hf:FOLDER, or "
            "--student bart"
        )
    return found


def _maps(config: VlkdConfig, width: int) -> Maps:
    log_scale = -math.log(config.temperature) if config.train_temperature else None
    return Maps(width, config.image_signal, config.pool, config.map_bias, config.image_scale, log_scale)
