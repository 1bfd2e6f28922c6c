"""CLIP's vectors become the beginning of a frozen language model's text: two linear maps, trained on captions.

This is how the user's summary of VLKD has a picture captioned after `plm-kl`: the picture's embedding and the text
encoder's output for an `<IMG>` token are the prefix from which the language model writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Feed, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import signal_width
from mmkd_cli.losses.infilling import infilling_per_row
from mmkd_cli.methods.pairs import pair_feed
from mmkd_cli.students.prefix import Prefix as PrefixStudent
from mmkd_cli.training.randomness import seed_all


class PrefixMethodConfig(Config):
    """Keys of the method `prefix`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "prefix"},
        "train": {"epochs": 10, "batch_size": 64, "peak_lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8},
    }
    """[S] epochs, batch; [U] the rest: the summary trains no maps."""

    name: str = key("prefix", "the method")
    image_signal: str = key("image_embedding", "teacher signal of the picture", source="[S] CLIP's image features")
    img_token_id: int | None = key(
        None, "CLIP's token that stands for <IMG> (None: its start of a text)", source="[S] 49406, which is that", ge=0
    )


class Prefix(Trainable):
    """`core.contracts.Method` and its `Trainable`."""

    Config: ClassVar[type] = PrefixMethodConfig
    runs_teacher: ClassVar[bool] = True

    def __init__(self, model: Any, config: Any, feeds: Sequence[Feed], validation: Sequence[Feed]) -> None:
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self.weights: Mapping[str, float] = {"caption": 1.0}

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The picture's vector."""
        return (config.method.image_signal,)

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> Prefix:
        """The language model with its weights, new maps, and feeds of `train` and, where there is one, of `val`."""
        method = config.method
        widths = {f"{method.image_signal} of {one.name}": signal_width(one, method.image_signal) for one in data}
        if len(set(widths.values())) > 1:
            raise UserError(f"the teacher's vectors have several widths ({widths}): use one teacher's joint space")
        seed_all(config.train.seed, "new weights")
        token = _token(config, device)
        student = _student_class(config).build(config.student, len(token), method.image_signal, token, _teacher(config))

        def feeds(split: str) -> list[Feed]:
            there = [split == "train" or (split in one.splits and one.targets(split) is not None) for one in data]
            return [pair_feed(one, split, method.image_signal, student.ended, None, number)
                    for number, one in enumerate(data) if there[number]]  # fmt: skip

        return cls(student.to(device), method, feeds("train"), feeds("val"))

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device: the language model, frozen, and the maps; CLIP's beside them."""
        if teacher is None:
            raise UserError("the maps' width comes from the teacher: name one ([teacher] name=..., or a cache)")
        signal, offered = config.method.image_signal, teacher.signals()
        if signal not in offered:
            raise UserError(f"teacher gives no signal {signal!r}{nearest(signal, offered)}")
        student = _student_class(config).empty(config.student, offered[signal].shape[-1], signal)
        maps = sum(p.numel() for p in student.maps())
        return Counts(sum(p.numel() for p in student.parameters()), maps, teacher.parameters_count())

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> folder or hub id of the language model."""
        return _student_class(config).files(config.student)

    @classmethod
    def repairs(cls, config: Any) -> dict[str, str]:
        """What of the user's summary can't run as written, and what is done instead; for the manifest."""
        said = config.method.img_token_id
        return {
            "e": f"CLIP has no <IMG>: {'its start of a text' if said is None else f'its token {said}'} stands for it",
            "f": "the features were joined along their width and given as token ids: here they are two vectors in "
            "front of the text, by a linear map each, trained on captions with the language model frozen",
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """The mean cross-entropy of each caption's tokens and its end."""
        said = self.model(batch)
        return Outputs(row_losses={"caption": infilling_per_row(said.logits, said.labels, said.mask)})

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The maps; their biases without decay."""
        maps = self.model.maps()
        groups = [([p for p in maps if p.ndim > 1], weight_decay), ([p for p in maps if p.ndim == 1], 0.0)]
        return [{"params": params, "lr": peak_lr, "weight_decay": decay} for params, decay in groups]

    def save(self, folder: Path) -> None:
        """The student writes model/ and heads.safetensors."""
        self.model.save(folder)


def _student_class(config: Any) -> type[PrefixStudent]:
    found: Any = registry.load("students", config.student.name)
    if not hasattr(found, "begin"):
        raise UserError(
            f"prefix goes on from a picture by a causal language model, not by the student {config.student.name!r}: "
            "name one by --student hf:FOLDER"
        )
    return found


def _teacher(config: Any) -> Any:
    made = registry.load("teachers", config.teacher.name)(config.teacher)
    if not hasattr(made, "token_embedding"):
        raise UserError(
            f"teacher {config.teacher.name!r} has no text encoder to say something of <IMG>: name a CLIP's cache"
        )
    return made


def _token(config: Any, device: str) -> Tensor:
    """[d]: what CLIP's text encoder says of <IMG>. CLIP is loaded for this alone, and let go."""
    teacher = _teacher(config)
    teacher.load(device)
    token: Tensor = teacher.token_embedding(config.method.img_token_id)
    return token.cpu()
