"""Pairs of a text and its picture as training rows: token ids, the teacher's signal, and pixels where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.core.contracts import Batch, PictureTransform, Position, Targets, Tokenize, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import PICTURES
from mmkd_cli.data.signals import dense
from mmkd_cli.data.viewed import pixels_of, teacher_views

_STATISTICS_ROWS = 8192
"""Signals that are held at once while their mean is taken."""


@dataclass
class PairFeed:
    """Texts of one split with their pictures, a row each text (`core.contracts.Feed`).

    text_rows, image_rows int64 [rows]: of the tables. texts, images: those in Arrow format; images is None where no
    pixels are asked for. The picture is the view that the teacher saw: in epoch e the cache's view e mod N. targets,
    signal: None without a teacher.
    number: of the data set among those of the run; with the row it tells pictures apart.
    """

    name: str
    weight: float
    text_rows: np.ndarray
    image_rows: np.ndarray
    texts: Any
    tokenize: Tokenize
    targets: Targets | None
    signal: str | None
    images: Any = None
    transform: PictureTransform | None = None
    number: int = 0
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.text_rows)

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids and attention_mask [B, L], picture [B] (the same where two rows have the same picture, whatever
        data it is of), the signal [B, ...] if one is read, and "pixels" uint8 [B, 3, H, W]."""
        image_rows = self.image_rows[rows]
        views, seen = teacher_views(self.targets, at.epoch, image_rows)
        texts = self.texts[self.text_rows[rows].tolist()].column("text").to_pylist()
        batch: Batch = {
            **self.tokenize(texts),
            "picture": torch.from_numpy(image_rows + self.number * PICTURES),
        }
        if self.targets is not None and self.signal is not None:
            batch[self.signal] = dense(self.targets.gather([self.signal], image_rows, views)[self.signal]).float()
        if self.images is not None:
            assert self.transform is not None
            batch["pixels"] = torch.stack(pixels_of(self.images, image_rows, self.transform, seen))
        return batch


def pair_feed(
    data: TrainingData,
    split: str,
    signal: str | None,
    tokenize: Tokenize,
    transform: PictureTransform | None,
    number: int,
) -> PairFeed:
    """The texts of a split that have a picture and, like it, were not rejected.

    signal: None where no teacher's is read. transform: where pixels are wanted. number: of the data set among those
    of the run.
    """
    tables = data.tables(split)
    for table in ("texts", "images"):
        if table not in tables:
            raise UserError(
                f"data {data.name!r} has no table {table!r} in {split!r}: pairs of a picture and a text are needed"
            )
    targets = data.targets(split) if signal is not None else None
    if targets is None and signal is not None:
        raise UserError(f"data {data.name!r} comes without a teacher: name a cache, or a teacher with --live")
    texts: Any = tables["texts"]
    image_rows = np.asarray(texts.with_format("numpy")["image_row"][:], dtype=np.int64)
    usable = (image_rows >= 0) & ~np.isin(image_rows, data.rejected(split, "images"))
    usable[data.rejected(split, "texts")] = False
    text_rows = np.flatnonzero(usable)
    images: Any = tables["images"] if transform is not None else None
    return PairFeed(
        name=data.name,
        weight=data.weight,
        text_rows=text_rows,
        image_rows=image_rows[text_rows],
        texts=texts.select_columns("text").with_format("arrow"),
        tokenize=tokenize,
        targets=targets,
        signal=signal,
        images=images.select_columns("image").with_format("arrow") if images is not None else None,
        transform=transform,
        number=number,
    )


def captions(data: TrainingData, split: str) -> Iterator[str]:
    """All texts of a split in their order."""
    texts: Any = data.tables(split)["texts"]
    for part in texts.select_columns("text").with_format("arrow").iter(10_000):
        yield from part.column("text").to_pylist()


def signal_statistics(feeds: list[PairFeed]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension of the signal, over all pictures and views: [D], [D].

    A dimension that never varies gets the deviation 1, so that dividing by it leaves it at 0.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    centre: Tensor | None = None
    for feed in feeds:
        rows = np.unique(feed.image_rows)
        for first in range(0, len(rows), _STATISTICS_ROWS):
            part = dense(feed.targets.gather([feed.signal], rows[first : first + _STATISTICS_ROWS])[feed.signal])
            values = part.double().reshape(-1, part.shape[-1])
            centre = values.mean(dim=0) if centre is None else centre  # near the mean: no digits are lost in squares
            count += len(values)
            total = total + (values - centre).sum(dim=0)
            squares = squares + (values - centre).square().sum(dim=0)
    assert centre is not None, "signals of no rows"
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    return (mean + centre).float(), std.float()
