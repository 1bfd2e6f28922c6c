"""Captions with their pictures' and their own cached vectors, and each caption with spans of it masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Position
from mmkd_cli.data.infilling import infilled
from mmkd_cli.data.signals import dense
from mmkd_cli.methods.pairs import PairFeed
from mmkd_cli.training.randomness import generator


@dataclass(frozen=True)
class Masking:
    """How captions are masked: least and most share of the tokens, mean span, share of captions that are one mask.

    part: of the random key, one a split and data set.
    """

    ratio: tuple[float, float]
    span_length: float
    whole: float
    seed: int
    part: str

    def __call__(self, tokens: list[int], mask: int, epoch: int, row: int) -> list[int]:
        """`tokens` with masks in them; a function of seed, epoch and row of the texts table."""
        draw = generator(self.seed, "infilling", self.part, epoch, row)
        if draw.random() < self.whole:
            return [mask]
        return infilled(tokens, mask, draw.uniform(*self.ratio), self.span_length, draw)


@dataclass
class InfillingFeed:
    """The rows of a `PairFeed`, with masked captions (`core.contracts.Feed`). text_signal: None where not asked for.

    tokenizer: transformers', whose texts are <s> ... </s>.
    """

    pairs: PairFeed
    masking: Masking
    tokenizer: Any
    text_signal: str | None
    stream: str = ""

    @property
    def name(self) -> str:
        return self.pairs.name

    @property
    def weight(self) -> float:
        return self.pairs.weight

    @property
    def rows(self) -> int:
        return self.pairs.rows

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """What the pairs give, noisy_ids and noisy_mask int64 [B, L], and the caption's vector [B, D]."""
        batch, text_rows = self.pairs.load(rows, at), self.pairs.text_rows[rows]
        ids, mask = batch["input_ids"], batch["attention_mask"]
        noisy_ids, noisy_mask = torch.full_like(ids, self.tokenizer.pad_token_id), torch.zeros_like(mask)
        for place, row in enumerate(text_rows.tolist()):
            first, *inner, last = ids[place, : int(mask[place].sum())].tolist()
            noisy = self.masking(inner, self.tokenizer.mask_token_id, at.epoch, row)[: ids.shape[1] - 2]
            line = torch.tensor([first, *noisy, last])
            noisy_ids[place, : len(line)], noisy_mask[place, : len(line)] = line, 1
        batch |= {"noisy_ids": noisy_ids, "noisy_mask": noisy_mask}
        if self.text_signal is not None:
            batch[self.text_signal] = dense(
                self.pairs.targets.gather([self.text_signal], text_rows)[self.text_signal]
            ).float()
        return batch
