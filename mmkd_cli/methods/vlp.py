"""Vision-and-language pre-training of CLIP-ViL_p: masked words, matching of text and picture, answers.

Each row is a text and the cells of its picture. With `mismatch` the text is another picture's: ITM tells the two apart,
words are masked either way, and an answer is asked for only where the question is of the picture. Losses are summed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.answers import common_answers
from mmkd_cli.data.signals import GRID
from mmkd_cli.losses.masked_words import asked_for, masked_word_losses
from mmkd_cli.methods.vlp_feed import Shown, shown_feed, table_of_shown
from mmkd_cli.students.grid_answerers import Vocabulary
from mmkd_cli.students.sight import attach_tower, counted_channels, groups_of, kept_cells, open_sight, seen
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")


class VlpConfig(Config):
    """Keys of the method `vlp`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "vlp"},
        "train": {"epochs": 20, "batch_size": 512, "optimizer": "adamw", "peak_lr": 1e-4, "betas": (0.9, 0.999),
                  "eps": 1e-6, "weight_decay": 0.01, "schedule": "linear", "warmup_ratio": 0.025, "clip_norm": 1.0},
    }  # fmt: skip
    """[C] CLIP-ViL Pretrain, README and param.py: RN50."""

    name: str = key("vlp", "the method")
    mlm_weight: float = key(1.0, "of masked words", source="[C] plain sum", ge=0)
    itm_weight: float = key(1.0, "of matching", source="[C] plain sum", ge=0)
    qa_weight: float = key(0.0, "of answers, where the data have questions (the second stage: 1)", source="[C] stage 2",
                           ge=0)  # fmt: skip
    mask_ratio: float = key(0.15, "share of a text's tokens that are asked for", source="[P] BERT", gt=0, lt=1)
    mismatch: float = key(0.5, "share of rows with another picture's text", source="[C] 0.5", ge=0, lt=1)
    cells: int = key(100, "cells of a picture that are drawn anew each time; 0: all", source="[C] 100", ge=0)
    least: int = key(9, "answers of the training rows that were given so often", source="[U] as VQA's", ge=1)


class VlpMethod(Trainable):
    """`core.contracts.Method` and its `Trainable`."""

    Config: ClassVar[type] = VlpConfig

    def __init__(self, model: Any, config: VlpConfig, feeds: Sequence[Shown], validation: Sequence[Shown]) -> None:
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self.weights: Mapping[str, float] = {
            "mlm": config.mlm_weight, "itm": config.itm_weight, "qa": config.qa_weight
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The pictures' cells, unless the tower is trained; of two towers their vectors."""
        return () if cls.trains_teacher(config) else (getattr(config.student, "signal", GRID),)

    @classmethod
    def trains_teacher(cls, config: Any) -> bool:
        """Whether the image tower is trained."""
        return bool(config.student.tower.trained)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> folder or hub id of BERT."""
        return _student(config).files(config.student)

    @classmethod
    def runs(cls, config: Any) -> dict[str, str]:
        """The run that pre-training goes on from."""
        return {"student.start": config.student.start} if config.student.start else {}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> VlpMethod:
        """BERT with its weights and new heads, or a run's stream, and feeds of `train` and, if there is, of `val`."""
        method, seed = config.method, config.train.seed
        start = config.student.start_folder
        sight = open_sight(config, data, start)
        vocabulary = Vocabulary((), _answers(data, method.least)) if method.qa_weight > 0 else None
        seed_all(seed, "new weights")
        model = _student(config).build(config.student, sight.channels, vocabulary, start)
        attach_tower(model, sight.tower)
        model = model.to(device)

        def feed(number: int, one: TrainingData, split: str) -> Shown:
            return shown_feed(one, split, model, method, sight, seed=seed, number=number)

        feeds, validation = (
            [feed(number, one, split) for number, one in enumerate(data)
             if sight.trains_on(one, split)]
            for split in _SPLITS
        )  # fmt: skip
        return cls(model, method, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device, without a head of answers; the teacher's beside them."""
        channels, tower = counted_channels(config.student, teacher)
        model = _student(config).empty(config.student, channels)
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return Counts(total + tower, trained + tower, teacher.parameters_count() if teacher and not tower else 0)

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """mlm: a value for each token that is asked for. itm: one a row. qa: one for each row with an answer."""
        if "pixels" in batch:
            batch = kept_cells(seen(self.model, batch), batch["cell_keys"], self.config.cells)
        said, outputs = self.model(batch), Outputs()
        asked = asked_for(batch["labels"])
        logits = self.model.word_logits(said.tokens[asked])
        outputs.row_losses["mlm"] = masked_word_losses(logits, batch["labels"][asked])
        matches = self.model.matches(said.pooled).float()
        outputs.row_losses["itm"] = F.cross_entropy(matches, batch["matched"], reduction="none")
        outputs.report["itm_accuracy"] = (matches.argmax(1) == batch["matched"]).float()
        if self.model.answers is not None and "answer" in batch:
            known = asked_for(batch["answer"])
            logits = self.model.answers(said.pooled[known]).float()
            outputs.row_losses["qa"] = F.cross_entropy(logits, batch["answer"][known], reduction="none")
        return outputs

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """Tokens that are asked for, and rows with an answer."""
        found = {"mlm": int(asked_for(batch["labels"]).sum())}
        if self.model.answers is not None and "answer" in batch:
            found["qa"] = int(asked_for(batch["answer"]).sum())
        return found

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The stream's, and the tower's."""
        return groups_of(self.model, peak_lr, weight_decay)

    def save(self, folder: Any) -> None:
        """The student writes model/ and heads.safetensors."""
        self.model.save(folder)


def _student(config: Any) -> Any:
    found = registry.load("students", config.student.name)
    if not hasattr(found, "word_logits"):
        raise UserError(f"vlp trains a single stream of words and cells, not the student {config.student.name!r}: name "
                        "--student vlp")  # fmt: skip
    return found


def _answers(data: Sequence[TrainingData], least: int) -> list[str]:
    people: list[Sequence[str]] = []
    for one in data:
        table = table_of_shown(one, "train")
        if "answers" in table.column_names:
            people += table.select_columns(["answers"])[:]["answers"]
    answers = common_answers(people, least)
    if len(answers) < 2:
        raise UserError(f"method.qa_weight: the data have {len(answers)} answers that were given {least} times: name "
                        "data with questions, make method.least smaller, or set method.qa_weight=0")  # fmt: skip
    return answers
