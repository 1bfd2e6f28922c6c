"""Fine-tuning: captions written from the cells of a cached grid (CLIP-ViL Direct): phase one by cross-entropy, phase
two self-critical."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Counts, Position, Teacher, Tokenize, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.grid_captioner import CaptionTokenizer, GridCaptioner
from mmkd_cli.students.sight import Look, attach_tower, counted_channels, groups_of, open_sight
from mmkd_cli.tasks.self_critical import SelfCritical, as_words
from mmkd_cli.tasks.writing import Writing
from mmkd_cli.tasks.written_feed import table_of, usable_rows, values_of
from mmkd_cli.training.randomness import generator, seed_all

_SPLITS = ("train", "val")
COUNTED = 9_487
"""Words that are counted where no data say them: about COCO's."""


@dataclass
class CaptionedGrids:
    """Pictures of a split that have captions, with their grids (`core.contracts.Feed`).

    table: `texts` in Arrow format. text_rows: of the captions, those of one picture together. starts [rows + 1]: where
    a picture's begin among them. image_rows [rows]. item: the first picture's place among the references. captions: of
    a picture that are learnt each time, 0: none.
    """

    name: str
    weight: float
    table: Any
    text_rows: np.ndarray
    starts: np.ndarray
    image_rows: np.ndarray
    item: int
    look: Look
    tokenize: Tokenize
    captions: int
    seed: int
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.image_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """item int64 [B], what `look` gives, and target_ids, target_mask int64 [B, S, T] of S captions, drawn anew each
        epoch without one twice before all are there."""
        batch = {"item": torch.from_numpy(self.item + rows), **self.look(self.image_rows[rows])}
        if self.captions:
            chosen = np.concatenate([self._drawn(row, at.epoch) for row in rows.tolist()])
            said = self.tokenize(self.table[self.text_rows[chosen].tolist()].column("text").to_pylist())
            shape = (len(rows), self.captions, -1)
            batch |= {"target_ids": said["input_ids"].view(shape), "target_mask": said["attention_mask"].view(shape)}
        return batch

    def _drawn(self, row: int, epoch: int) -> np.ndarray:
        """Places [captions] in text_rows."""
        first, last = self.starts[row], self.starts[row + 1]
        order = generator(self.seed, "captions", self.name, epoch, row).permutation(np.arange(first, last))
        return np.resize(order, self.captions)


def build(config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Trainable:
    """A captioner and feeds. New, its words are those that the training captions have `task.least` times."""
    task, student = config.task, config.student
    sight = open_sight(config, data, start)
    if start is not None:
        model = GridCaptioner.load(start, {"student": student.model_dump(mode="json")}, tower=False).train()
        if sight.channels != model.channels:
            raise UserError(f"the run's cells have {model.channels} channels, the data's {sight.channels}: name a "
                            "cache of its own teacher")  # fmt: skip
    elif task.loss == "self-critical":
        raise UserError("task.loss=self-critical trains a run further that writes captions: name it by --model")
    else:
        tables = [table_of(one, "train", "texts", ("text", "image_row")) for one in data]
        texts = (text for table in tables for text in values_of(table, "text"))
        seed_all(config.train.seed, "new weights")
        model = GridCaptioner(student, known_words(texts, task.least), sight.channels)
    attach_tower(model, sight.tower)
    feeds: dict[str, list[CaptionedGrids]] = {}
    for split in _SPLITS:
        item = 0
        feeds[split] = []
        for one in data:
            if sight.trains_on(one, split):
                learnt = task.captions if task.loss == "cross-entropy" else 0
                feed = _feed(one, split, model, sight.of(one, split), item, learnt, config.train.seed)
                feeds[split].append(feed)
                item += feed.rows
    model = model.to(device)
    if task.loss == "self-critical":
        return SelfCritical(
            model, task, *feeds.values(), *(references(model.tokenize, those) for those in feeds.values())
        )
    return GridWriting(model, task, *feeds.values())


class GridWriting(Writing):
    """Cross-entropy of a captioner, whose tower may be trained with it."""

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The model's, and its tower's."""
        return groups_of(self.model, peak_lr, weight_decay)


def _feed(
    one: TrainingData, split: str, model: GridCaptioner, look: Look, item: int, captions: int, seed: int
) -> CaptionedGrids:
    table = table_of(one, split, "texts", ("text", "image_row"))
    owners = table[:].column("image_row").to_numpy()
    rows = usable_rows(one, split, "texts", owners, len(table))
    rows = rows[np.argsort(owners[rows], kind="stable")]
    image_rows, starts = np.unique(owners[rows], return_index=True)
    return CaptionedGrids(
        one.name, one.weight, table, rows, np.append(starts, len(rows)), image_rows, item, look, model.tokenize,
        captions, seed,
    )  # fmt: skip


def references(tokenize: CaptionTokenizer, feeds: Sequence[CaptionedGrids]) -> list[list[str]]:
    """The captions of each picture as the reward reads them."""
    found: list[list[str]] = []
    for feed in feeds:
        said = tokenize(feed.table[feed.text_rows.tolist()].column("text").to_pylist())
        lengths = said["attention_mask"].sum(1).tolist()
        texts = [as_words(ids, length) for ids, length in zip(said["input_ids"].tolist(), lengths, strict=True)]
        found += [texts[first:last] for first, last in pairwise(feed.starts.tolist())]
    return found


def known_words(captions: Iterable[str], least: int) -> list[str]:
    """Words of captions that are there so often, the commonest first."""
    counts = Counter(word for text in captions for word in CaptionTokenizer.split(text))
    kept = [word for word, times in counts.items() if times >= least]
    if not kept:
        raise UserError(f"no word of the captions is there {least} times: make task.least smaller")
    return sorted(kept, key=lambda word: (-counts[word], word))


def count(config: Any, teacher: Teacher | None) -> Counts:
    """Parameters on the meta device, with about COCO's words; the teacher's beside them."""
    channels, tower = counted_channels(config.student, teacher)
    model = GridCaptioner.empty(config.student, COUNTED, channels)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trained = tower + sum(n for n, trained in sizes if trained)
    return Counts(tower + sum(n for n, _ in sizes), trained, teacher.parameters_count() if teacher and not tower else 0)
