"""Fine-tuning: captions written from the cells of a cached grid, by cross-entropy (CLIP-ViL Direct, phase one)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkd_cli.core.contracts import Batch, Counts, Position, Targets, Teacher, Tokenize, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.signals import GRID
from mmkd_cli.students.grid_answerers import grid_batch, grid_names, grid_spec
from mmkd_cli.students.grid_captioner import CaptionTokenizer, GridCaptioner
from mmkd_cli.tasks.writing import Writing
from mmkd_cli.tasks.written_feed import table_of, trained_splits, usable_rows
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")
COUNTED = 9_487
"""Words that are counted where no data say them: about COCO's."""


@dataclass
class CaptionedGrids:
    """Captions of a split with their pictures' grids (`core.contracts.Feed`). table: `texts` in Arrow format.

    table_rows, image_rows [rows]. cells: a grid is padded to so many.
    """

    name: str
    weight: float
    table: Any
    table_rows: np.ndarray
    image_rows: np.ndarray
    targets: Targets
    tokenize: Tokenize
    cells: int
    mask_padding: bool
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.table_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """target_ids, target_mask int64 [B, T], and the cells (`students.grid_answerers.grid_batch`)."""
        said = self.tokenize(self.table[self.table_rows[rows].tolist()].column("text").to_pylist())
        of = self.targets.gather(grid_names(self.targets), self.image_rows[rows])
        return {"target_ids": said["input_ids"], "target_mask": said["attention_mask"],
                **grid_batch(of, self.cells, self.mask_padding)}  # fmt: skip


def build(config: Any, data: Sequence[TrainingData], device: str) -> Writing:
    """A new captioner, its words those that the training captions have `task.least` times, and feeds."""
    specs = [grid_spec(one) for one in data]
    channels = {spec.shape[-1] for spec in specs}
    if len(channels) > 1:
        raise UserError(f"the data's grids are {' and '.join(map(str, sorted(channels)))} wide: cache one teacher's")
    tables = [table_of(one, "train", "texts", ("text", "image_row")) for one in data]
    words = known_words([text for table in tables for text in table[:].column("text").to_pylist()], config.task.least)
    seed_all(config.train.seed, "new weights")
    model, cells = GridCaptioner(config.student, words, *channels), max(spec.shape[0] for spec in specs)

    def feed(one: TrainingData, split: str) -> CaptionedGrids:
        table = table_of(one, split, "texts", ("text", "image_row"))
        image_rows = table[:].column("image_row").to_numpy()
        rows = usable_rows(one, split, "texts", image_rows, len(table))
        targets = one.targets(split)
        assert targets is not None
        return CaptionedGrids(one.name, one.weight, table, rows, image_rows[rows], targets, model.tokenize, cells,
                              config.student.mask_padding)  # fmt: skip

    feeds, validation = (
        [feed(one, split) for one in data if trained_splits(one, split, sees=True)] for split in _SPLITS
    )
    return Writing(model.to(device), config.task, feeds, validation)


def known_words(captions: Sequence[str], least: int) -> list[str]:
    """Words of captions that are there so often, the commonest first."""
    counts = Counter(word for text in captions for word in CaptionTokenizer.split(text))
    kept = [word for word, times in counts.items() if times >= least]
    if not kept:
        raise UserError(f"no word of the captions is there {least} times: make task.least smaller")
    return sorted(kept, key=lambda word: (-counts[word], word))


def count(config: Any, teacher: Teacher | None) -> Counts:
    """Parameters on the meta device, with about COCO's words; the teacher's beside them."""
    if teacher is None:
        raise UserError("the cells' width comes from the teacher: name one ([teacher] name=..., or a cache)")
    offered = teacher.signals()
    if GRID not in offered:
        raise UserError(f"teacher gives no signal {GRID!r}{nearest(GRID, offered)}")
    model = GridCaptioner.empty(config.student, COUNTED, offered[GRID].shape[-1])
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Counts(sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained), teacher.parameters_count())
