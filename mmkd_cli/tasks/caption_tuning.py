"""Fine-tuning: the captions of pictures, each token by cross-entropy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Counts, Teacher, Tokenize, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.signals import GRID
from mmkd_cli.tasks import grid_captions
from mmkd_cli.tasks.caption import MASK
from mmkd_cli.tasks.seeing import SeeingConfig, SeeingTask
from mmkd_cli.tasks.writing import RECIPE
from mmkd_cli.tasks.written_feed import WrittenFeed, pictures_of, table_of, usable_rows

GRIDS = "grid-captioner"
"""The student that sees cells."""


class CaptionTuningConfig(SeeingConfig):
    """Keys of the task `caption`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "bart"},
        "train": {**RECIPE, "epochs": 10, "batch_size": 256, "warmup_ratio": 0.05},
    }
    """[C] fairseq's BART; [U] epochs, batch, warm-up."""

    name: str = key("caption", "the task")
    least: int = key(
        5, "of `grid-captioner`: words that the training captions have so often", source="[C] CLIP-ViL Direct", ge=1
    )
    loss: Literal["cross-entropy", "self-critical"] = key(
        "cross-entropy", "of each word; or, of a run of `grid-captioner`, CIDEr-D of captions that it samples",
        source="[C] CLIP-ViL Direct: 15 epochs of the first, 25 of the second", absent="cross-entropy",
    )  # fmt: skip
    captions: int = key(
        5, "of `grid-captioner`, whose rows are pictures: captions of a picture that are learnt at once",
        source="[C] CLIP-ViL Direct: seq_per_img 5", ge=1,
    )  # fmt: skip
    samples: int = key(5, "of self-critical: captions of a picture", source="[C] train_sample_n 5", absent=5, ge=2)
    baseline: Literal["greedy", "mean"] = key(
        "greedy", "of self-critical: the reward of the greedy caption, or the mean of the other samples'",
        source="[C] self_critical_after; mean: its new_self_critical", absent="greedy",
    )  # fmt: skip
    longest: int = key(20, "of self-critical: words that are sampled at most, the end one of them", unit="words",
                       source="[C] max_length 20", absent=20, ge=1)  # fmt: skip
    prompt: str = key(MASK, "what the encoder reads beside the picture", source="[U] as in VLKD without fine-tuning")


@dataclass
class Captions:
    """`written_feed.Examples` of a table of captions."""

    table: Any
    prompt: str

    def __call__(self, rows: np.ndarray, epoch: int) -> tuple[list[str], list[str]]:
        return [self.prompt] * len(rows), self.table[rows.tolist()].column("text").to_pylist()


class CaptionTuning(SeeingTask):
    """`core.contracts.FinetuneTask`: a row each caption. A BART sees a picture's vector, `grid-captioner` its cells."""

    Config: ClassVar[type] = CaptionTuningConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {**SeeingTask.trains, GRIDS: (GRIDS,)}
    fresh: ClassVar[tuple[str, ...]] = (GRIDS,)

    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The picture's vector, or its cells, unless a tower is trained."""
        if config.student.name != GRIDS:
            return super().signals(config, tables)
        return () if cls.trains_teacher(config) else (GRID,)

    @classmethod
    def trains_teacher(cls, config: Any) -> bool:
        """Whether the captioner's tower is trained."""
        return config.student.name == GRIDS and config.student.tower.trained

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Trainable:
        """As every task of a BART; of cells a captioner, new or a run's."""
        if config.student.name == GRIDS:
            return grid_captions.build(config, data, start, device)
        if config.task.loss == "self-critical":
            raise UserError(f"task.loss=self-critical is of --student {GRIDS}: leave it out")
        return super().build(config, data, start, device)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device; the teacher's beside them."""
        return (grid_captions.count if config.student.name == GRIDS else super().count)(config, teacher)

    @classmethod
    def feed(cls, config: Any, number: int, data: TrainingData, split: str, tokenize: Tokenize) -> WrittenFeed:
        """Captions that have a picture."""
        task, table = config.task, table_of(data, split, "texts", ("text", "image_row"))
        image_rows = table[:].column("image_row").to_numpy()
        rows = usable_rows(data, split, "texts", image_rows, len(table))
        return WrittenFeed(
            data.name, data.weight, rows, Captions(table, task.prompt), tokenize, tokenize,
            pictures_of(data, split, task.image_signal, image_rows[rows]),
        )  # fmt: skip

    @classmethod
    def writes(cls, config: CaptionTuningConfig) -> Mapping[str, Mapping[str, str]]:
        """`generate --task caption` gives the encoder what it was trained with."""
        return {"caption": {"prompt": config.prompt}}
