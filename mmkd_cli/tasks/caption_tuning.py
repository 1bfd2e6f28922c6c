"""Fine-tuning: the captions of pictures, each token by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Tokenize, TrainingData
from mmkd_cli.tasks.caption import MASK
from mmkd_cli.tasks.seeing import SeeingConfig, SeeingTask
from mmkd_cli.tasks.writing import RECIPE
from mmkd_cli.tasks.written_feed import WrittenFeed, pictures_of, table_of, usable_rows


class CaptionTuningConfig(SeeingConfig):
    """Keys of the task `caption`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "bart"},
        "train": {**RECIPE, "epochs": 10, "batch_size": 256, "warmup_ratio": 0.05},
    }
    """[C] fairseq's BART; [U] epochs, batch, warm-up."""

    name: str = key("caption", "the task")
    prompt: str = key(MASK, "what the encoder reads beside the picture", source="[U] as in VLKD without fine-tuning")


@dataclass
class Captions:
    """`written_feed.Examples` of a table of captions."""

    table: Any
    prompt: str

    def __call__(self, rows: np.ndarray, epoch: int) -> tuple[list[str], list[str]]:
        return [self.prompt] * len(rows), self.table[rows.tolist()].column("text").to_pylist()


class CaptionTuning(SeeingTask):
    """`core.contracts.FinetuneTask`: a row each caption."""

    Config: ClassVar[type] = CaptionTuningConfig

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
