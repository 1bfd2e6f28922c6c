"""A shallow encoder learns the mean of its deep teacher's layers, token by token (A, B, B' of Cares' thesis).

Both means are normalised over channels, too, where `final_norm` says so. A picture counts once, a text by its tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Feed, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.layer_mean import layer_mean_per_token
from mmkd_cli.methods.layer_mean_feed import SIGNAL, TABLES, token_feed
from mmkd_cli.training.randomness import seed_all


class LayerMeanConfig(Config):
    """Keys of the method `layer-mean`."""

    stage_defaults: ClassVar[dict[str, Any]] = {"student": {"name": "encoder"}}

    name: str = key("layer-mean", "the method")
    final_norm: bool | None = key(
        None, "normalise both means over channels (None: but those of a transformers text encoder)",
        source="[P] A with, B without",
    )  # fmt: skip


class LayerMean(Trainable):
    """`core.contracts.Method` and its `Trainable`."""

    Config: ClassVar[type] = LayerMeanConfig

    def __init__(self, model: nn.Module, config: Any, feeds: Sequence[Feed], validation: Sequence[Feed]) -> None:
        self.model, self.feeds, self.validation = model, list(feeds), list(validation)
        student = config.student
        self.tap = getattr(config.teacher, "layer_tap", "block")
        plain = student.modality == "text" and student.text == "transformers"
        self.final_norm = not plain if config.method.final_norm is None else config.method.final_norm
        self.weights: Mapping[str, float] = {SIGNAL: 1.0}

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The layers' mean of pictures or of texts."""
        _student_class(config)
        table = TABLES[config.student.modality]
        if table not in tables:
            raise UserError(f"data with {', '.join(sorted(tables))} have no {table}: name others, or --modality")
        return (SIGNAL,)

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> LayerMean:
        """The student with its first weights on the device, feeds of `train` and, where there is one, of `val`."""
        seed_all(config.train.seed, "new weights")
        student = _student_class(config).build(config.student.beside(config.teacher))
        feeds, validation = (
            [token_feed(one, split, student) for one in data if split in one.splits or split == "train"]
            for split in ("train", "val")
        )
        return cls(student.to(device), config, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device; the teacher's beside them."""
        student = _student_class(config).empty(config.student.beside(config.teacher))
        sizes = [(p.numel(), p.requires_grad) for p in student.parameters()]
        trainable = sum(n for n, trained in sizes if trained)
        return Counts(sum(n for n, _ in sizes), trainable, teacher.parameters_count() if teacher is not None else 0)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> file or folder whose content decides the run's first weights."""
        found: dict[str, str] = _student_class(config).files(config.student.beside(config.teacher))
        return found

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """The error of each picture, or of each token of the texts that is no padding."""
        said = self.model(batch, self.tap)
        target = batch[SIGNAL].to(said.device)
        if "attention_mask" in batch:
            target = target[:, : said.shape[1]]  # the student cuts a batch to its longest text
        if target.shape != said.shape:
            theirs, ours = (list(one.shape[1:]) for one in (target, said))
            raise UserError(f"the teacher's {SIGNAL} is [tokens, width] {theirs}, the student's {ours}: give the "
                            "student the teacher's image_size, patch_size and width")  # fmt: skip
        values = layer_mean_per_token(said, target, final_norm=self.final_norm)
        if "attention_mask" not in batch:
            return Outputs(row_losses={SIGNAL: values.mean(dim=1)})
        return Outputs(row_losses={SIGNAL: values[batch["attention_mask"][:, : said.shape[1]].bool()]})

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """Of texts, tokens."""
        return {SIGNAL: int(batch["attention_mask"].sum())} if "attention_mask" in batch else {}

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices; vectors, embedding tables and the class token without decay."""
        spared = {id(one) for part in self.model.parts_without_decay().values() for one in part}
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        kept = [p for p in trained if p.ndim > 1 and id(p) not in spared]
        rest = [p for p in trained if p.ndim <= 1 or id(p) in spared]
        return [{"params": params, "lr": peak_lr, "weight_decay": decay}
                for params, decay in ((kept, weight_decay), (rest, 0.0)) if params]  # fmt: skip

    def save(self, folder: Path) -> None:
        """The student writes model/."""
        self.model.save(folder)


def _student_class(config: Any) -> Any:
    found = registry.load("students", config.student.name)
    if not hasattr(config.student, "modality"):
        raise UserError(f"layer-mean does not train the student {config.student.name!r}: name encoder")
    return found
