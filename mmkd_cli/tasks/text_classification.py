"""Fine-tuning: the class of each text or pair of texts, or its number (GLUE's tasks, and any labelled texts)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Position, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.data.labels import COLUMN, SECOND, has_seconds, read_labels, same_names
from mmkd_cli.students import classifier
from mmkd_cli.students.classifier import Classifier, ClassifierConfig, TextTokenizer
from mmkd_cli.students.text_folder import named
from mmkd_cli.students.text_halves import text_half
from mmkd_cli.tasks.written_feed import table_of, trained_splits, usable_rows
from mmkd_cli.training.optim import decay_groups
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")


class TextClassificationConfig(Config):
    """Keys of the task `text-classification`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "classifier"},
        "train": {"epochs": 10, "batch_size": 32, "optimizer": "adamw", "peak_lr": 1e-5, "betas": (0.9, 0.98),
                  "eps": 1e-8, "weight_decay": 0.01, "schedule": "linear", "warmup_ratio": 0.06},
    }  # fmt: skip
    """[C] fairseq's examples/bart/README.glue.md, as for RTE, QNLI and QQP; MNLI and SST-2: 5e-6 and 128 rows, MRPC
    and CoLA: 2e-5 and 64, STS-B: 2e-5."""

    name: str = key("text-classification", "the task")


@dataclass
class LabelledTexts:
    """Labelled rows of `texts` (`core.contracts.Feed`). values: float32 [rows of the table]. pairs: of two texts."""

    name: str
    weight: float
    table_rows: np.ndarray
    table: Any
    values: np.ndarray
    pairs: bool
    tokenize: TextTokenizer
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.table_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """What the tokenizer gives, [B, L] each, and label float32 [B]."""
        table_rows = self.table_rows[rows]
        found = self.table[table_rows.tolist()]
        seconds = found.column(SECOND).to_pylist() if self.pairs else None
        said: Batch = self.tokenize(found.column("text").to_pylist(), seconds)
        return {**said, COLUMN: torch.from_numpy(self.values[table_rows])}


class TextClassification(Trainable):
    """`core.contracts.FinetuneTask` and its `Trainable`."""

    Config: ClassVar[type] = TextClassificationConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "classifier": ("classifier", "seq2seq", "bart", "encoder", "unimodal", "mm-d2v2", "s-smke")
    }

    def __init__(self, model: Classifier, feeds: Sequence[LabelledTexts], validation: Sequence[LabelledTexts]) -> None:
        self.model, self.feeds, self.validation = model, list(feeds), list(validation)
        self.loss = "squared_error" if model.labels is None else "cross_entropy"
        self.weights: Mapping[str, float] = {self.loss: 1.0}
        self.content: Mapping[str, Any] = {"labels": model.labels}

    # ------------------------------------------------------------------------------------------ task
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Texts alone."""
        return ()

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Whose pooler the model gets."""
        pooler = config.student.pooler
        return {"student.pooler": str(hub_folder(pooler))} if pooler else {}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> TextClassification:
        """The model with its weights, a head for the labels, feeds of `train` and, where there is one, of `val`."""
        trained = [read_labels(_texts(one, "train"), f"data {one.name!r}, train") for one in data]
        names = same_names(data, trained)
        seed_all(config.train.seed, "new weights")
        with _first(config.student, start) as folder:
            model = Classifier.build(config.student, folder, names)
        pairs = any(has_seconds(_texts(one, "train")) for one in data)

        def feed(one: TrainingData, split: str) -> LabelledTexts:
            table = _texts(one, split)
            labels = read_labels(table, f"data {one.name!r}, {split}", names)
            rows = usable_rows(one, split, "texts", None, len(table))
            rows = rows[np.isfinite(labels.values[rows])]
            if not len(rows):
                raise UserError(f"data {one.name!r} has no labels in {split!r}: name data with labels by --data")
            columns = ["text", *([SECOND] if pairs else [])]
            read = table.select_columns(columns).with_format("arrow")
            return LabelledTexts(one.name, one.weight, rows, read, labels.values, pairs, model.tokenize)

        feeds, validation = (
            [feed(one, split) for one in data if trained_splits(one, split, sees=False)] for split in _SPLITS
        )
        return cls(model.to(device), feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device, with a head of two classes."""
        total = sum(p.numel() for p in classifier.empty(config.student, 2).parameters())
        return Counts(total, total, 0)

    @classmethod
    def writes(cls, config: TextClassificationConfig) -> Mapping[str, Mapping[str, str]]:
        """Nothing is written."""
        return {}

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """Cross-entropy of a row, and whether its likeliest class is right, or the square of what its number misses."""
        logits, label = self.model.classify(batch), batch[COLUMN]
        if self.model.labels is None:
            return Outputs({self.loss: (logits[:, 0] - label).square()})
        label = label.long()
        right = (logits.argmax(dim=1) == label).float()
        return Outputs({self.loss: F.cross_entropy(logits, label, reduction="none")}, report={"accuracy": right})

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices; tables, norms and biases without decay."""
        return decay_groups(self.model, self.model.parameters(), peak_lr, weight_decay)

    def save(self, folder: Path) -> None:
        """The student writes its own files."""
        self.model.save(folder)


def _first(student: ClassifierConfig, start: Path | None) -> AbstractContextManager[Path]:
    """The folder of transformers that training starts from."""
    return nullcontext(hub_folder(named(student))) if start is None else text_half(start)


def _texts(data: TrainingData, split: str) -> Any:
    """The table, with its features, once it is known to have labels."""
    table_of(data, split, "texts", ("text", COLUMN))
    return data.tables(split)["texts"]
