"""Pictures, or texts, with a teacher's signal of every token, as training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, PictureTransform, Position, Ragged, Targets, Tokenize, TrainingData
from mmkd_cli.core.errors import Refused, UserError, nearest
from mmkd_cli.data.signals import dense
from mmkd_cli.data.viewed import pixels_of, teacher_views

SIGNAL = "layer_mean"
TABLES = {"image": "images", "text": "texts"}


@dataclass
class PictureTokens:
    """Pictures of one split, each a row (`core.contracts.Feed`), in epoch e the cache's view e mod N.

    image_rows int64 [rows] of the table `images`, which is in Arrow format.
    """

    name: str
    weight: float
    image_rows: np.ndarray
    images: Any
    transform: PictureTransform
    targets: Targets
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.image_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """pixels uint8 [B, 3, H, W], layer_mean float32 [B, tokens, D]."""
        image_rows = self.image_rows[rows]
        views, seen = teacher_views(self.targets, at.epoch, image_rows)
        pixels = torch.stack(pixels_of(self.images, image_rows, self.transform, seen))
        said = self.targets.gather([SIGNAL], image_rows, views)[SIGNAL]
        return {"pixels": pixels, SIGNAL: dense(said).float()}


@dataclass
class TextTokens:
    """Texts of one split, each a row (`core.contracts.Feed`). text_rows int64 [rows] of the table `texts`."""

    name: str
    weight: float
    text_rows: np.ndarray
    texts: Any
    tokenize: Tokenize
    targets: Targets
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.text_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids, attention_mask int64 [B, L], layer_mean float32 [B, L, D], zeros where padding is."""
        text_rows = self.text_rows[rows]
        coded = self.tokenize(self.texts[text_rows.tolist()].column("text").to_pylist())
        said = self.targets.gather([SIGNAL], text_rows)[SIGNAL]
        assert isinstance(said, Ragged)
        if not torch.equal(said.offsets.diff(), coded["attention_mask"].sum(dim=1)):
            raise Refused(
                f"the teacher's tokens of data {self.name!r} are not those of the student's tokenizer: name the "
                "teacher's own by student.tokenizer, and its length by student.max_tokens"
            )
        length = coded["input_ids"].shape[1]
        return {**coded, SIGNAL: Ragged(said.values.float(), said.offsets).padded(length)}


def token_feed(data: TrainingData, split: str, student: Any) -> PictureTokens | TextTokens:
    """The rows of a split that were not rejected, as an `encoder` student reads them."""
    table = TABLES[student.config.modality]
    targets = data.targets(split)
    if targets is None:
        raise UserError(f"data {data.name!r} comes without a teacher: name a cache, or a teacher with --live")
    if SIGNAL not in targets.specs:
        raise UserError(f"the teacher of data {data.name!r} gives no {SIGNAL!r}{nearest(SIGNAL, targets.specs)}")
    stored: Any = data.tables(split)[table]
    rows = np.setdiff1d(np.arange(len(stored)), data.rejected(split, table))
    column = "image" if table == "images" else "text"
    arrow = stored.select_columns(column).with_format("arrow")
    if table == "images":
        return PictureTokens(data.name, data.weight, rows, arrow, student.picture_transform, targets)
    return TextTokens(data.name, data.weight, rows, arrow, student.tokenize, targets)
