"""Texts with a language model's token distributions as training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.architectures.language_model import TokenWindows
from mmkd_cli.core.contracts import Batch, Position, Ragged, Targets, TrainingData
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.training.randomness import generator

POSITIONS = "target_positions"


@dataclass
class TokenTexts:
    """Texts of one split, each a row (`core.contracts.Feed`). Of a text of several windows each epoch sees one.

    text_rows int64 [rows] of the table. signals: those of the cache that are read beside the positions. mask_id: what
    stands at a target's place, None where the targets are the next tokens.
    """

    name: str
    weight: float
    text_rows: np.ndarray
    texts: Any
    windows: TokenWindows
    targets: Targets
    signals: tuple[str, ...]
    mask_id: int | None
    seed: int
    part: str
    stream: str = "texts"

    @property
    def rows(self) -> int:
        return len(self.text_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """token_ids, token_mask int64 [B, W], target_places bool [B, W], and each signal spread over the places
        [B, W, ...], zeros where there is no target; integers as int64."""
        text_rows = self.text_rows[rows]
        length = self.windows.length
        coded = self.windows(self.texts[text_rows.tolist()].column("text").to_pylist())
        said = self.targets.gather([POSITIONS, *self.signals], text_rows)
        positions = _ragged(said[POSITIONS])
        places, counts = positions.values.long(), positions.offsets.diff()
        owner = torch.repeat_interleave(torch.arange(len(rows)), counts)
        window = self._windows(text_rows, at.epoch, owner, places // length)
        kept = places // length == window[owner]
        row, place = owner[kept], places[kept] % length
        own = (torch.arange(len(rows)), window)
        ids, mask = (coded[name].view(len(rows), -1, length)[own] for name in ("input_ids", "attention_mask"))
        targets = torch.zeros_like(mask, dtype=torch.bool)
        targets[row, place] = True
        if (targets & ~mask.bool()).any():
            raise Refused(f"data {self.name!r} has targets where its texts have no tokens: make the cache again")
        if self.mask_id is not None:
            ids = ids.masked_fill(targets, self.mask_id)
        batch: Batch = {"token_ids": ids, "token_mask": mask, "target_places": targets}
        for name in self.signals:
            values = _ragged(said[name]).values[kept]
            values = values if values.is_floating_point() else values.long()
            spread = values.new_zeros((*targets.shape, *values.shape[1:]))
            spread[row, place] = values
            batch[name] = spread
        return batch

    def _windows(self, text_rows: np.ndarray, epoch: int, owner: Tensor, window: Tensor) -> Tensor:
        """The window of each row: int64 [B], drawn by row and epoch among those that have targets."""
        counts = torch.ones(len(text_rows), dtype=torch.int64).scatter_reduce(0, owner, window + 1, "amax")
        for place in (counts > 1).nonzero()[:, 0].tolist():
            draw = generator(self.seed, "window", self.part, epoch, int(text_rows[place]))
            counts[place] = int(draw.integers(int(counts[place]))) + 1
        return counts - 1


def _ragged(value: Tensor | Ragged) -> Ragged:
    assert isinstance(value, Ragged)
    return value


def token_texts_feed(
    data: TrainingData, split: str, windows: TokenWindows, signals: tuple[str, ...], mask_id: int | None, seed: int
) -> TokenTexts:
    """The texts of a split that were not rejected."""
    targets = data.targets(split)
    if targets is None:
        raise UserError(f"no cache holds the token distributions of {split!r} of data {data.name!r}: cache that split")
    texts: Any = data.tables(split)["texts"]
    usable = np.ones(len(texts), dtype=bool)
    usable[data.rejected(split, "texts")] = False
    return TokenTexts(
        f"{data.name}.texts", data.weight, np.flatnonzero(usable), texts.select_columns("text").with_format("arrow"),
        windows, targets, signals, mask_id, seed, split,
    )  # fmt: skip
