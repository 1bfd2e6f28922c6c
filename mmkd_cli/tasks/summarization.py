"""Fine-tuning: a text for a text, such as a summary for an article (BART, arXiv 1910.13461, section 4.3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Counts, Teacher, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.labels import has_text
from mmkd_cli.students.seq2seq import Seq2Seq
from mmkd_cli.students.text_folder import first_folder
from mmkd_cli.students.tokenizers import FixedLengthTokenizer
from mmkd_cli.tasks.writing import RECIPE, Writing, WritingConfig
from mmkd_cli.tasks.written_feed import WrittenFeed, table_of, trained_splits, usable_rows
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")
_LONGEST = 1024
"""Tokens of a text where the model's positions have no bound (T5)."""


class SummarizationConfig(WritingConfig):
    """Keys of the task `summarization`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "seq2seq"},
        "train": {**RECIPE, "epochs": 5, "batch_size": 64, "warmup_ratio": 0.025},
    }
    """[C] fairseq: 500 of 20,000 steps of warm-up; [U] epochs, and the batch, which is of tokens there."""

    name: str = key("summarization", "the task")
    max_source_tokens: int | None = key(
        None, "length of what is read, with its special tokens; longer texts are cut (None: the model's positions, "
        "1024 where it has no bound)", unit="tokens", source="[C] fairseq's BART: the model's 1024", ge=2,
    )  # fmt: skip
    max_target_tokens: int | None = key(
        None, "the same of what is written", unit="tokens", source="[C] fairseq's BART: the model's 1024", ge=2
    )
    text_column: str = key("text", "column of `texts` that is read", source="[U] as sources name it")
    summary_column: str = key("summary", "column of `texts` that is written; rows without one are left out",
                              source="[U] as sources name it")  # fmt: skip
    template: str = key("{text}", "what the model reads: the text in its place", source="[U] the text alone")


@dataclass
class Summaries:
    """`written_feed.Examples` of a table of two columns."""

    table: Any
    template: str

    def __call__(self, rows: np.ndarray, epoch: int) -> tuple[list[str], list[str]]:
        texts, summaries = (column.to_pylist() for column in self.table[rows.tolist()].itercolumns())
        return [self.template.replace("{text}", text) for text in texts], summaries


class Summarization:
    """`core.contracts.FinetuneTask`."""

    Config: ClassVar[type] = SummarizationConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {"seq2seq": ("seq2seq", "bart")}

    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Texts alone."""
        return ()

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """No file beside the model's."""
        return {}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Writing:
        """The model with its weights, and feeds of `train` and, where there is one, of `val`."""
        task = config.task
        seed_all(config.train.seed, "new weights")
        model = Seq2Seq.build(config.student, first_folder(config.student, start))
        read, write = _tokenizers(model, task)

        def feed(one: TrainingData, split: str) -> WrittenFeed:
            table = table_of(one, split, "texts", (task.text_column, task.summary_column))
            rows = usable_rows(one, split, "texts", None, len(table))
            rows = rows[has_text(table[:].column(task.summary_column))[rows]]
            if not len(rows):
                raise UserError(f"data {one.name!r} has no {task.summary_column!r} in {split!r}: name another split")
            return WrittenFeed(one.name, one.weight, rows, Summaries(table, task.template), read, write)

        feeds, validation = (
            [feed(one, split) for one in data if trained_splits(one, split, sees=False)] for split in _SPLITS
        )
        return Writing(model.to(device), task, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device."""
        total = sum(p.numel() for p in Seq2Seq.empty(config.student).parameters())
        return Counts(total, total, 0)

    @classmethod
    def writes(cls, config: SummarizationConfig) -> Mapping[str, Mapping[str, str]]:
        """`generate --task text` gives the model what it was trained to read."""
        return {"text": {"template": config.template}}


def _tokenizers(model: Seq2Seq, config: SummarizationConfig) -> tuple[FixedLengthTokenizer, FixedLengthTokenizer]:
    """Of what is read, and of what is written; UserError where the model has no so many positions."""
    positions: int | None = getattr(model.language_model.config, "max_position_embeddings", None)

    def made(name: str) -> FixedLengthTokenizer:
        asked: int | None = getattr(config, name)
        if asked is not None and positions is not None and asked > positions:
            raise UserError(f"task.{name} {asked} is more than the model's {positions} positions: make it smaller")
        return FixedLengthTokenizer(model.tokenizer, asked or positions or _LONGEST)

    return made("max_source_tokens"), made("max_target_tokens")
