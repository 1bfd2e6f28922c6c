"""Fine-tuning: an answer written to each question about a picture.

The encoder reads the question, the decoder writes the answer beside the picture. Of the answers that people gave (ten
in VQA v2) each epoch draws one, so that an answer counts by how often it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmkd_cli.core import console
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Tokenize, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.tasks.seeing import SeeingConfig, SeeingTask
from mmkd_cli.tasks.writing import RECIPE
from mmkd_cli.tasks.written_feed import WrittenFeed, pictures_of, table_of, usable_rows
from mmkd_cli.training.randomness import generator


class VqaGenerativeConfig(SeeingConfig):
    """Keys of the task `vqa-generative`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "bart"},
        "train": {**RECIPE, "epochs": 10, "batch_size": 256, "warmup_ratio": 0.05},
    }
    """[C] fairseq's BART; [U] epochs, batch, warm-up."""

    name: str = key("vqa-generative", "the task")
    prompt: str = key("{question}", "what the encoder reads beside the picture", source="[U] the question alone")


@dataclass
class Answers:
    """`written_feed.Examples` of a table of questions. part: of the random key, one a split and data set."""

    table: Any
    prompt: str
    seed: int
    part: str

    def __call__(self, rows: np.ndarray, epoch: int) -> tuple[list[str], list[str]]:
        found = self.table[rows.tolist()]
        sources = [self.prompt.replace("{question}", one) for one in found.column("question").to_pylist()]
        drawn = [
            given[generator(self.seed, "answer", self.part, epoch, row).integers(len(given))]
            for row, given in zip(rows.tolist(), found.column("answers").to_pylist(), strict=True)
        ]
        return sources, drawn


class VqaGenerative(SeeingTask):
    """`core.contracts.FinetuneTask`: a row each question that has answers."""

    Config: ClassVar[type] = VqaGenerativeConfig

    @classmethod
    def feed(cls, config: Any, number: int, data: TrainingData, split: str, tokenize: Tokenize) -> WrittenFeed:
        """Questions that have a picture and answers."""
        import pyarrow.compute as pc

        task, table = config.task, table_of(data, split, "questions", ("question", "answers", "image_row"))
        columns = table[:]
        image_rows = columns.column("image_row").to_numpy()
        rows = usable_rows(data, split, "questions", image_rows, len(table))
        answered = pc.fill_null(pc.greater(pc.list_value_length(columns.column("answers")), 0), False).to_numpy()[rows]
        if not answered.any():
            raise UserError(f"data {data.name!r} has no answers in {split!r}: name data with answers by --data")
        if not answered.all():
            console.say(f"{(~answered).sum():,} questions of {data.name!r}, {split!r}, have no answers: left out")
        rows = rows[answered]
        examples = Answers(table, task.prompt, config.train.seed, f"{split}.{number}")
        return WrittenFeed(
            data.name, data.weight, rows, examples, tokenize, tokenize,
            pictures_of(data, split, task.image_signal, image_rows[rows]),
        )  # fmt: skip

    @classmethod
    def writes(cls, config: VqaGenerativeConfig) -> Mapping[str, Mapping[str, str]]:
        """`generate --task vqa` asks as the model was trained, and the decoder begins with the answer."""
        return {"vqa": {"prompt": config.prompt, "prefix": ""}}
