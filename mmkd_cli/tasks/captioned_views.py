"""Captions and their pictures as training rows, the picture cropped and mirrored anew for each caption and epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Position, Tokenize, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import PICTURES
from mmkd_cli.data.viewed import ViewedPictures
from mmkd_cli.data.views import ViewSpec
from mmkd_cli.tasks.written_feed import table_of, usable_rows


@dataclass
class CaptionedViews:
    """Captions of one split that have a picture, a row each (`core.contracts.Feed`).

    text_rows, image_rows int64 [rows]: of the tables. number: of the data set among those of the run; with the row it
    tells pictures apart.
    """

    name: str
    weight: float
    text_rows: np.ndarray
    image_rows: np.ndarray
    texts: Any
    pictures: ViewedPictures
    tokenize: Tokenize
    number: int = 0
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.text_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids and attention_mask [B, L], pixels uint8 [B, 3, H, W], picture int64 [B] (equal where two rows show
        the same picture)."""
        text_rows, image_rows = self.text_rows[rows], self.image_rows[rows]
        return {
            **self.tokenize(self.texts[text_rows.tolist()].column("text").to_pylist()),
            "pixels": self.pictures(image_rows, text_rows, at.epoch),
            "picture": torch.from_numpy(image_rows + self.number * PICTURES),
        }


def captioned_views(
    data: TrainingData, split: str, model: Any, seed: int, spec: ViewSpec | None, number: int
) -> CaptionedViews:
    """The captions of a split that have a picture and, like it, were not rejected. model: tokenizer and transform."""
    texts = table_of(data, split, "texts", ("text", "image_row"))
    images = table_of(data, split, "images", ("image",))
    image_rows = texts[:].column("image_row").to_numpy()
    rows = usable_rows(data, split, "texts", image_rows, len(texts))
    if not len(rows):
        raise UserError(f"data {data.name!r} has no caption with a picture in {split!r}: name other data by --data")
    pictures = ViewedPictures(images, model.picture_transform, split, seed, spec)
    return CaptionedViews(data.name, data.weight, rows, image_rows[rows], texts.select_columns(["text"]), pictures,
                          model.tokenize, number)  # fmt: skip
