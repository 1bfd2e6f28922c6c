"""Fine-tuning: pictures and their captions are brought together by the contrastive loss alone (Z of Cares' thesis).

Compared is what retrieval compares, the student's last output; what does not lead there (the head that regressed a
teacher, projections of other stages) stays as it is. Source: public repository TimCares/EV-LP, retrieval_finetune.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.views import ViewSpec
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.logit_scale import clamp_logit_scale_, new_logit_scale
from mmkd_cli.students.projections import Heads
from mmkd_cli.tasks.captioned_views import CaptionedViews, captioned_views
from mmkd_cli.training.optim import decay_groups
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")
_SCALE = "contrast_scale"
"""The name that a logit scale has in a student that brought none."""
_UNTAUGHT = Heads(regression=False, layout="clip", dim=None)
"""Of a student that begins with encoders, and with no run."""


class RetrievalConfig(Config):
    """Keys of the task `retrieval`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "s-smke"},
        "train": {"epochs": 5, "batch_size": 1024, "optimizer": "adamw", "peak_lr": 3e-5, "betas": (0.9, 0.98),
                  "eps": 1e-6, "weight_decay": 0.01, "schedule": "cosine", "warmup_ratio": 0.1},
    }  # fmt: skip
    """[P] Z, of which the code has 20 epochs; [C] betas, eps, schedule."""

    name: str = key("retrieval", "the task")
    view: ViewSpec = key(ViewSpec(scale_min=0.5), "crops and flips, drawn anew for each caption and epoch")
    dedup: bool = key(
        False, "captions of one picture in a batch are not each other's negatives",
        source="[C] EV-LP accepts these false negatives",
    )  # fmt: skip
    clamp_logit_scale: bool = key(True, "bound the logit scale by 100 after each step", source="[C] EV-LP: yes")


class Retrieval(Trainable):
    """`core.contracts.FinetuneTask` and its `Trainable`."""

    Config: ClassVar[type] = RetrievalConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "s-smke": ("s-smke",), "mm-d2v2": ("mm-d2v2",), "mm-beit2": ("mm-beit2",),
    }  # fmt: skip

    def __init__(
        self, model: Any, config: RetrievalConfig, feeds: Sequence[CaptionedViews], validation: Sequence[CaptionedViews]
    ) -> None:
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        _train_what_is_compared(model)

    # ------------------------------------------------------------------------------------------ task
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Pictures and texts alone."""
        return ()

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """No file beside the student's."""
        return {}

    @classmethod
    def runs(cls, config: Any) -> dict[str, str]:
        """Runs of one modality that a student begins with where it is no run."""
        named = ((name, getattr(config.student, name, None)) for name in ("init_image", "init_text"))
        return {f"student.{name}": run for name, run in named if run is not None}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Retrieval:
        """The student of a run, or of encoders; feeds of `train` and, where there is one, of `val`."""
        keys, student = config.student, registry.load("students", config.student.name)
        seed_all(config.train.seed, "new weights")
        if start is None:
            model = student.build(keys, _UNTAUGHT, "image_cls", keys.width, lambda: ())
        else:
            model = student.load(start, {"student": keys.model_dump(mode="json")})
        feeds, validation = (
            [captioned_views(one, split, model, config.train.seed, config.task.view if split == "train" else None, n)
             for n, one in enumerate(data) if split == "train" or split in one.splits]
            for split in _SPLITS
        )  # fmt: skip
        return cls(model.to(device), config.task, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device, of a student that begins with encoders."""
        keys = config.student
        model = registry.load("students", keys.name).empty(keys, _UNTAUGHT, "image_cls", keys.width)
        for stage in model.projections.stages[:-1]:
            model.projections.logit_scales[stage].requires_grad_(False)
        sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
        return Counts(sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained), 0)

    @classmethod
    def writes(cls, config: RetrievalConfig) -> Mapping[str, Mapping[str, str]]:
        """Nothing is written."""
        return {}

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """Both vectors, for the loss of the whole batch, and the cosine of each pair."""
        image, text = _compared(self.model, batch)
        ids = {"picture": batch["picture"]} if self.config.dedup else {}
        cosine = F.cosine_similarity(image.detach().float(), text.detach().float(), dim=1)
        return Outputs(gathered={"image": image, "text": text, **ids}, report={"positive_cosine": cosine})

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The contrastive loss over the global batch."""
        scale = _log_scale(self.model).exp()
        return {"contrastive": info_nce(gathered["image"], gathered["text"], scale, gathered.get("picture"))}

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        """Bound the logit scale, where told to."""
        if self.config.clamp_logit_scale:
            clamp_logit_scale_(_log_scale(self.model))

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices; norms, biases, all tables of embeddings and the image's CLS without decay ([C])."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return decay_groups(self.model, trained, peak_lr, weight_decay, self.model.parts_without_decay())

    def save(self, folder: Path) -> None:
        """The student writes model/ and heads.safetensors."""
        with _own_alone(self.model):
            self.model.save(folder)


def _compared(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Vectors of pictures and of texts [B, E], as the student's last layer has them."""
    return model.vectors("image", batch), model.vectors("text", batch)


def _log_scale(model: Any) -> nn.Parameter:
    """The logit scale's logarithm of the last stage that the student's run contrasted, else its own."""
    heads = model.projections
    found: nn.Parameter = getattr(model, _SCALE) if heads is None else heads.logit_scales[heads.stages[-1]]
    return found


def _train_what_is_compared(model: Any) -> None:
    """Leave parameters untrained that the compared vectors and their logit scale do not depend on."""
    if model.projections is None:
        model.register_parameter(_SCALE, new_logit_scale())
    device, side = next(model.parameters()).device, model.config.image_size
    ids = torch.zeros((1, 2), dtype=torch.long, device=device)
    pixels = torch.zeros((1, 3, side, side), dtype=torch.uint8, device=device)
    image, text = _compared(model, {"pixels": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
    trained = [p for p in model.parameters() if p.requires_grad and p is not _log_scale(model)]
    said = image.sum() + text.sum()
    if not said.requires_grad:
        raise UserError("student.freeze leaves nothing that retrieval trains: --set student.freeze='[]'")
    gradients = torch.autograd.grad(said, trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


@contextmanager
def _own_alone(model: nn.Module) -> Iterator[None]:
    """The model without the logit scale that it was given, for as long as it is saved."""
    given = model._parameters.pop(_SCALE, None)
    try:
        yield
    finally:
        if given is not None:
            model._parameters[_SCALE] = given
