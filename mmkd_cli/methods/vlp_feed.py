"""Rows of vision-and-language pre-training: a text (a caption, a question), whose picture it is, and some cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.answers import soft_scores
from mmkd_cli.data.signals import GRID, GRID_BOXES, GRID_SIZE
from mmkd_cli.losses.masked_words import IGNORED, masked
from mmkd_cli.students.sight import Look, Sight, kept_cells
from mmkd_cli.training.randomness import generator

QUESTIONS = "questions"
_TRIES = 100
"""Draws of another picture's text; where nearly all rows are of one picture a row may stay matched."""


@dataclass
class Shown:
    """Texts of a split with their pictures (`core.contracts.Feed`).

    table: in Arrow format, its texts in `column`. table_rows, image_rows int64 [rows]. answers: number of each, of
    questions. cells: the most that a picture has. part: of the random key, one a split and data set.
    """

    name: str
    weight: float
    table: Any
    column: str
    table_rows: np.ndarray
    image_rows: np.ndarray
    look: Look
    tokenize: Any
    vocabulary: int
    answers: Mapping[str, int] | None
    config: Any
    cells: int
    seed: int
    part: str
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.table_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids, attention_mask, labels int64 [B, L], matched int64 [B] (1 where the text is of the picture),
        answer int64 [B] where questions are asked, and the cells that `students.vlp` takes, or pictures and `cell_keys`
        float32 [B, K], which say by their order whose cells are drawn, or the picture's vector."""
        draws = [generator(self.seed, "vlp", self.part, at.epoch, int(row)) for row in rows]
        shown = [self._text_of(int(row), draw) for row, draw in zip(rows, draws, strict=True)]
        matched = np.array([text == row for text, row in zip(shown, rows, strict=True)], dtype=np.int64)
        found = self.table[self.table_rows[shown].tolist()]
        said: Batch = self.tokenize(found.column(self.column).to_pylist())
        batch = self._hidden(said, draws) | {"matched": torch.from_numpy(matched)}
        if self.answers is not None:
            people = found.column("answers").to_pylist()
            batch["answer"] = torch.tensor(
                [self._answer(given, draw) if own else IGNORED
                 for given, draw, own in zip(people, draws, matched, strict=True)]
            )  # fmt: skip
        seen, most = self.look(self.image_rows[rows]), self.config.cells
        if not self.cells:
            return batch | seen
        keys = torch.from_numpy(np.stack([draw.random(self.cells, dtype=np.float32) for draw in draws]))
        return batch | (kept_cells(seen, keys, most) if GRID in seen else {**seen, "cell_keys": keys})

    def _text_of(self, row: int, draw: np.random.Generator) -> int:
        """The row whose text is shown: its own, or one of another picture."""
        if draw.random() >= self.config.mismatch:
            return row
        others = draw.integers(self.rows, size=_TRIES)
        fit = others[self.image_rows[others] != self.image_rows[row]]
        return int(fit[0]) if len(fit) else row

    def _hidden(self, said: Batch, draws: list[np.random.Generator]) -> Batch:
        tokenizer = self.tokenize.tokenizer
        special = list(tokenizer.all_special_ids)
        ids = said["input_ids"].numpy()
        free = said["attention_mask"].numpy().astype(bool) & ~np.isin(ids, special)
        both = [
            masked(own, where, draw, ratio=self.config.mask_ratio, mask=tokenizer.mask_token_id,
                   vocabulary=self.vocabulary)
            for own, where, draw in zip(ids, free, draws, strict=True)
        ]  # fmt: skip
        hidden, labels = (torch.from_numpy(np.stack(part)) for part in zip(*both, strict=True))
        return {"input_ids": hidden, "attention_mask": said["attention_mask"], "labels": labels}

    def _answer(self, people: list[str], draw: np.random.Generator) -> int:
        """One of the known answers, as often as it is worth; IGNORED where none is known."""
        assert self.answers is not None
        known = {self.answers[one]: worth for one, worth in soft_scores(people).items() if one in self.answers}
        if not (total := sum(known.values())):
            return IGNORED
        return int(draw.choice(list(known), p=np.array(list(known.values())) / total))


def table_of_shown(data: TrainingData, split: str) -> Any:
    """`questions` where the data have them, else `texts`."""
    tables = data.tables(split)
    for name in (QUESTIONS, "texts"):
        if name in tables:
            return tables[name]
    raise UserError(f"data {data.name!r} has no texts and no questions in {split!r}: name data with pictures and texts")


def shown_feed(
    data: TrainingData, split: str, model: Any, config: Any, sight: Sight, *, seed: int, number: int
) -> Shown:  # fmt: skip
    """Texts of a split whose picture is there, neither rejected."""
    table: Any = table_of_shown(data, split)
    asked = "question" in table.column_names
    name = QUESTIONS if asked else "texts"
    owners = np.asarray(table.with_format("numpy")["image_row"][:], dtype=np.int64)
    usable = (owners >= 0) & ~np.isin(owners, data.rejected(split, "images"))
    usable[data.rejected(split, name)] = False
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise UserError(f"data {data.name!r}, {split!r}: pictures with texts are needed")
    targets = data.targets(split)
    if sight.tower is None and sight.cells and (targets is None or not {GRID_SIZE, GRID_BOXES} & targets.specs.keys()):
        raise UserError(f"the cache of data {data.name!r} has no grid_size in {split!r}: make it by --signals grid")
    if model.tokenize.tokenizer.mask_token_id is None:
        raise UserError("student.weights: its tokenizer has no mask token: name a BERT")
    known = model.vocabulary
    answers = {one: place for place, one in enumerate(known.answers)} if known is not None and asked else None
    columns = ["question", "answers"] if asked else ["text"]
    return Shown(
        data.name, data.weight, table.select_columns(columns).with_format("arrow"), columns[0], rows, owners[rows],
        sight.of(data, split), model.tokenize, model.bert.config.vocab_size, answers, config, sight.cells, seed,
        f"{split}.{number}",
    )  # fmt: skip
