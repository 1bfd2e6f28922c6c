"""Fine-tuning: one of known answers to each question about a picture, which is seen as the cells of a cached grid, or
by the student's own encoder.

VQA v2's soft targets (what each answer is worth to a question), GQA's and SNLI-VE's single ones, and whether a
statement about one picture (NLVR) or two (NLVR2) is true.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F

from mmkd_cli.core import console, registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import (
    Batch,
    Counts,
    Outputs,
    Position,
    Teacher,
    Tokenize,
    Trainable,
    TrainingData,
)
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.answers import common_answers, read_answers_file, soft_scores
from mmkd_cli.data.signals import GRID
from mmkd_cli.data.tables import SECOND_PICTURE
from mmkd_cli.students.grid_answerers import Vocabulary
from mmkd_cli.students.sight import Look, Sight, attach_tower, counted_channels, groups_of, open_sight
from mmkd_cli.students.words import Words
from mmkd_cli.tasks.written_feed import table_of, usable_rows, values_of
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")
COUNTED = Vocabulary([f"word {n}" for n in range(20_000)], [f"answer {n}" for n in range(3_129)])
"""Sizes that are counted where no data say them: about VQA v2's."""


class AnsweringConfig(Config):
    """Keys of tasks whose outcome is an answer of a list."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "mcan"},
        "train": {"epochs": 13, "batch_size": 64, "optimizer": "adamw", "peak_lr": 1e-4, "betas": (0.9, 0.98),
                  "eps": 1e-9, "weight_decay": 0.0, "schedule": "cosine", "warmup_ratio": 0.1},
    }  # fmt: skip
    """[P] MCAN: 13 epochs, batch 64, 1e-4, Adam (0.9, 0.98), 1e-9; its steps of the rate are a cosine here."""

    name: str = key("", "the task")
    answers: str | None = key(
        None, "file of the answers, a JSON list or lines (None: those of the training rows)", source="[C] 3,129 of VQA "
        "v2", identity=False,
    )  # fmt: skip
    least: int = key(9, "answers of the training rows that were given so often", source="[C] BUTD: 9", ge=1)
    loss: Literal["bce", "ce"] = key(
        "bce", "binary cross-entropy of every answer with its worth, times their number, or cross-entropy of one",
        source="[C] mmf",
    )  # fmt: skip
    normalize: bool = key(
        False, "answers as VQA's official script normalises them; false: as they stand, where exact strings are scored",
        source="[C] VQA v2's answers alone are normalised", absent=True,
    )  # fmt: skip
    loss_scale: float = key(
        1.0, "of the loss; it matters to a tower's SGD and to train.clip_norm", source="[C] mmf", absent=1.0, gt=0
    )


class VqaAnsweringConfig(AnsweringConfig):
    """Keys of the task `vqa`."""

    name: str = key("vqa", "the task")
    normalize: bool = key(True, "as of `gqa`; false where exact strings are scored (DAQUAR)", source="[C] mmf",
                          absent=True)  # fmt: skip


class GqaConfig(AnsweringConfig):
    """Keys of the task `gqa`."""

    name: str = key("gqa", "the task")
    least: int = key(1, "answers of the training rows that were given so often", source="[C] 1,842 answers", ge=1)


class SnliVeConfig(AnsweringConfig):
    """Keys of the task `snli-ve`."""

    name: str = key("snli-ve", "the task")
    least: int = key(1, "labels of the training rows that were given so often", source="[C] three labels", ge=1)
    loss: Literal["bce", "ce"] = key("ce", "as of `vqa`", source="[C] CLIP-ViL")


class StatementConfig(AnsweringConfig):
    """Keys of tasks whose answer is true or false."""

    least: int = key(1, "labels of the training rows that were given so often", source="[C] two labels", ge=1)
    loss: Literal["bce", "ce"] = key("ce", "as of `vqa`", source="[C] LXMERT, nlvr2_model.py")


class NlvrConfig(StatementConfig):
    """Keys of the task `nlvr`."""

    name: str = key("nlvr", "the task")


class Nlvr2Config(StatementConfig):
    """Keys of the task `nlvr2`."""

    name: str = key("nlvr2", "the task")


@dataclass
class AskedGrids:
    """Questions of a split with their pictures' grids (`core.contracts.Feed`).

    table: `questions` in Arrow format. table_rows [rows]; image_rows [rows], of questions about P pictures [rows, P].
    """

    name: str
    weight: float
    table: Any
    table_rows: np.ndarray
    image_rows: np.ndarray
    look: Look
    tokenize: Tokenize
    answers: Mapping[str, int]
    normalize: bool
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.table_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids, attention_mask int64 [B, L], what `look` gives, worth float32 [B, A]: what each answer is worth to
        the question."""
        found = self.table[self.table_rows[rows].tolist()]
        worth = torch.zeros(len(rows), len(self.answers))
        for row, people in enumerate(found.column("answers").to_pylist()):
            for answer, score in soft_scores(people, normalize=self.normalize).items():
                if (place := self.answers.get(answer)) is not None:
                    worth[row, place] = score
        return {
            **self.tokenize(found.column("question").to_pylist()),
            **self.look(self.image_rows[rows]),
            "worth": worth,
        }


class Answering(Trainable):
    """`core.contracts.FinetuneTask` and its `Trainable`."""

    Config: ClassVar[type] = AnsweringConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mcan": (), "pythia": (), "vlp": ("vlp",), "late-fusion": ("mm-d2v2", "mm-beit2", "s-smke", "late-fusion"),
    }  # fmt: skip
    pictures: ClassVar[Sequence[str]] = ("image_row",)
    """Columns of the pictures that a question is about."""
    answers: ClassVar[int] = 3_129
    """That are counted where no data say them."""
    generates: ClassVar[str] = "vqa"
    """The task of `generate` that its runs serve."""

    def __init__(
        self, model: Any, config: AnsweringConfig, feeds: Sequence[AskedGrids],
        validation: Sequence[AskedGrids],
    ) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self.weights: Mapping[str, float] = {config.loss: config.loss_scale}
        self.content: Mapping[str, Any] = {
            "answers": len(model.vocabulary.answers), "words": len(model.vocabulary.words),
            **({"words_of_glove": model.known_words} if getattr(model.config, "glove", None) else {}),
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------ task
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The grid, unless the student reads pictures; its mask comes with it where pictures are padded."""
        return () if cls.trains_teacher(config) or _reads_pictures(config.student) else (GRID,)

    @classmethod
    def trains_teacher(cls, config: Any) -> bool:
        """Whether the image tower is trained."""
        return not _reads_pictures(config.student) and bool(config.student.tower.trained)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """The answers' file, and the student's word vectors."""
        glove = getattr(config.student, "glove", None)
        named = {"task.answers": config.task.answers, "student.glove": glove}
        return {name: file for name, file in named.items() if file}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Answering:
        """A new model, its words and answers from the training rows, and feeds of `train` and, if there is, `val`."""
        columns = ("question", "answers", *cls.pictures)
        tables = [table_of(one, "train", "questions", columns) for one in data]
        questions = (text for table in tables for text in values_of(table, "question"))
        people = (given for table in tables for given in values_of(table, "answers"))
        if config.task.answers:
            answers = read_answers_file(Path(config.task.answers).expanduser())
        else:
            answers = common_answers(people, config.task.least, normalize=config.task.normalize)
        if len(answers) < 2:
            raise UserError(f"the training rows have {len(answers)} answers that were given {config.task.least} times: "
                            "make task.least smaller, or name a file by task.answers")  # fmt: skip
        words = Words.of(questions, 1).words
        if getattr(config.student, "signal", GRID) != GRID:
            raise UserError("student.arch=two-tower is pre-trained and answers nothing: start from a single stream")
        sight = Sight() if _reads_pictures(config.student) else open_sight(config, data, start)
        seed_all(config.train.seed, "new weights")
        student = registry.load("students", config.student.name)
        vocabulary = Vocabulary(words, answers, len(cls.pictures))
        model = student.build(config.student, sight.channels, vocabulary, start)
        if _reads_pictures(config.student):
            sight.transform = model.picture_transform
        else:
            attach_tower(model, sight.tower)
        number = {answer: place for place, answer in enumerate(answers)}

        def feed(one: TrainingData, split: str) -> AskedGrids:
            table = table_of(one, split, "questions", columns)
            shown = [table[:].column(name).to_numpy() for name in cls.pictures]
            image_rows = np.stack(shown, axis=1) if len(shown) > 1 else shown[0]
            rows = usable_rows(one, split, "questions", image_rows, len(table))
            rows = _answerable(one, split, table, rows, number, config.task.normalize)
            return AskedGrids(one.name, one.weight, table, rows, image_rows[rows], sight.of(one, split), model.tokenize,
                              number, config.task.normalize)  # fmt: skip

        feeds, validation = ([feed(one, split) for one in data if sight.trains_on(one, split)] for split in _SPLITS)
        return cls(model.to(device), config.task, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device, with as many words as VQA v2 has."""
        channels, tower = (0, 0) if _reads_pictures(config.student) else counted_channels(config.student, teacher)
        vocabulary = COUNTED._replace(answers=COUNTED.answers[: cls.answers], pictures=len(cls.pictures))
        if config.task.answers:
            answers = read_answers_file(Path(config.task.answers).expanduser())
            vocabulary = vocabulary._replace(answers=answers)
        model = registry.load("students", config.student.name).empty(config.student, channels, vocabulary)
        sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
        trained = tower + sum(n for n, trained in sizes if trained)
        beside = teacher.parameters_count() if teacher is not None and not tower else 0
        return Counts(tower + sum(n for n, _ in sizes), trained, beside)

    @classmethod
    def writes(cls, config: AnsweringConfig) -> Mapping[str, Mapping[str, str]]:
        """The question alone is asked."""
        return {cls.generates: {"prompt": "{question}", "prefix": ""} if cls.generates == "vqa" else {}}

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """The loss of a row, and as `accuracy` what its likeliest answer is worth."""
        logits, worth = self.model.logits(batch), batch["worth"]
        score = worth.gather(1, logits.argmax(1, keepdim=True))[:, 0]
        if self.config.loss == "ce":
            loss = F.cross_entropy(logits, worth.argmax(1), reduction="none")
        else:
            loss = F.binary_cross_entropy_with_logits(logits, worth, reduction="none").sum(1)
        return Outputs({self.config.loss: loss}, report={"accuracy": score})

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The model's, and its tower's."""
        own = getattr(self.model, "parameter_groups", None)
        return own(peak_lr, weight_decay) if own else groups_of(self.model, peak_lr, weight_decay)

    def save(self, folder: Path) -> None:
        """The student writes its own files."""
        self.model.save(folder)


class VqaAnswering(Answering):
    """VQA v2's soft targets."""

    Config = VqaAnsweringConfig


class Gqa(Answering):
    """GQA's single answers."""

    Config = GqaConfig
    answers = 1_842


class SnliVe(Answering):
    """SNLI-VE's three labels."""

    Config = SnliVeConfig
    answers = 3


class Nlvr(Answering):
    """Whether a statement about a drawn picture is true."""

    Config = NlvrConfig
    answers = 2
    generates = "nlvr"


class Nlvr2(Answering):
    """Whether a statement about two photos is true."""

    Config = Nlvr2Config
    pictures = ("image_row", SECOND_PICTURE)
    answers = 2
    generates = "nlvr2"


def _reads_pictures(student: Any) -> bool:
    """By an encoder of its own, and no cells."""
    return not hasattr(student, "tower")


def _answerable(
    data: TrainingData, split: str, table: Any, rows: np.ndarray, number: Mapping[str, int], normalize: bool
) -> np.ndarray:  # fmt: skip
    """Of these rows those with an answer of the list; how many are left out is said."""
    people = values_of(table, "answers")
    known = [any(one in number for one in soft_scores(given, normalize=normalize)) for given in people]
    kept = np.array(known, dtype=bool)[rows]
    if not kept.any():
        raise UserError(f"data {data.name!r} has no known answer in {split!r}: name data with answers by --data")
    if not kept.all():
        console.say(f"{(~kept).sum():,} of {len(rows):,} questions of {data.name!r}, {split!r}, have no answer of the "
                    f"{len(number):,}: left out")  # fmt: skip
    return rows[kept]
