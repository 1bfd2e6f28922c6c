"""Fine-tuning a BART to write about pictures, which it sees by a cached vector each (VLKD's decoder, trained further).

The decoder attends to [W_d v ; states of what is read]. W_e, which embeds texts, has no part in it and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Counts, Teacher, Tokenize, Trainable, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import signal_width
from mmkd_cli.students.bart import Bart, Maps
from mmkd_cli.tasks.writing import Writing, WritingConfig
from mmkd_cli.tasks.written_feed import WrittenFeed, trained_splits
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")


class SeeingConfig(WritingConfig):
    """Keys of tasks that write about pictures."""

    image_signal: str = key("image_embedding", "teacher signal of the picture", source="[P2] VLKD: CLIP's joint space")
    map_lr_scale: float = key(
        1.0, "learning rate of W_d, times train.peak_lr (of a model that never saw pictures, 10 or more)",
        source="[U] a run's maps are trained", gt=0,
    )  # fmt: skip


class SeeingTask:
    """`core.contracts.FinetuneTask`, but for Config, `feed` and `writes`."""

    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {"bart": ("bart",)}

    @classmethod
    def feed(cls, config: Any, number: int, data: TrainingData, split: str, tokenize: Tokenize) -> WrittenFeed:
        """The rows of a split. config: the stage's. number: of the data set among those of the run."""
        raise NotImplementedError

    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The picture's vector."""
        return (config.task.image_signal,)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """No file beside the model's."""
        return {}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Trainable:
        """BART with its weights (and new maps where it is no run), and feeds of `train` and, if there is, of `val`."""
        signal = config.task.image_signal
        widths = {signal_width(one, signal) for one in data}
        seed_all(config.train.seed, "new weights")
        if start is None:
            model = Bart.build(config.student, Maps(min(widths), signal))
        else:
            model = Bart.load(start, {"student": config.student.model_dump(mode="json")})
        if model.image_signal != signal or widths != {model.maps.width}:
            raise UserError(
                f"the model sees {model.image_signal!r} of width {model.maps.width}, the data give {signal!r} of "
                f"{', '.join(map(str, sorted(widths)))}: name a cache of its own teacher, or set task.image_signal"
            )
        model.text_map.requires_grad_(False)
        if model.log_scale is not None:
            model.log_scale.requires_grad_(False)
        feeds, validation = (
            [cls.feed(config, number, one, split, model.fixed_length) for number, one in enumerate(data)
             if trained_splits(one, split, sees=True)]
            for split in _SPLITS
        )  # fmt: skip
        scale = config.task.map_lr_scale
        return Writing(model.to(device), config.task, feeds, validation, model.image_map.parameters(), scale)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device: BART with its maps; the teacher's beside them."""
        if teacher is None:
            raise UserError("the maps' width comes from the teacher: name one ([teacher] name=..., or a cache)")
        signal, offered = config.task.image_signal, teacher.signals()
        if signal not in offered:
            raise UserError(f"teacher gives no signal {signal!r}{nearest(signal, offered)}")
        model = Bart.empty(config.student, Maps(offered[signal].shape[-1], signal))
        total = sum(p.numel() for p in model.parameters())
        frozen = sum(p.numel() for p in model.text_map.parameters())
        return Counts(total, total - frozen, teacher.parameters_count())
