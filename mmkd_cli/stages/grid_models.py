"""What `generate` asks of models that see the cells of a grid: they take a writer's place (`architectures.writer`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.architectures.writer import Asked
from mmkd_cli.core.contracts import Batch, Targets
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.signals import GRID, GRID_MASK, GRID_SIZE
from mmkd_cli.students.grid_answerers import grid_batch, grid_names


@dataclass(frozen=True)
class Grids:
    """Cells of pictures, read a batch at a time. rows int64 [n]: of the images table."""

    targets: Targets
    rows: np.ndarray
    model: Any

    def __getitem__(self, places: Sequence[int]) -> Grids:
        return Grids(self.targets, self.rows[list(places)], self.model)

    def batch(self) -> Batch:
        said = self.targets.gather(grid_names(self.targets), self.rows)
        return grid_batch(said, self.targets.specs[GRID].shape[0], self.model.config.mask_padding)


@dataclass(frozen=True)
class LiveGrid:
    """The cells of one picture's file, by the run's teacher."""

    model: Any

    def __call__(self, path: Path) -> Any:
        from mmkd_cli.data.pictures import PictureError, decode
        from mmkd_cli.data.ranges import picture_bytes

        try:
            picture = decode(picture_bytes(str(path)))
        except PictureError as error:
            raise UserError(f"--image {path} can't be read: {error}") from None
        live, device = self.model.live, next(self.model.parameters()).device
        batch = {"pixels": live.picture_transform(picture)[None], "row": torch.zeros(1, dtype=torch.int64),
                 "id": [path.stem], "split": ""}  # fmt: skip
        said = {
            name: torch.stack(list(live.signal(batch, name, device)))
            for name in live.offered((GRID, GRID_SIZE, GRID_MASK))
        }
        return OneGrid(grid_batch(said, said[GRID].shape[1], self.model.config.mask_padding))


@dataclass(frozen=True)
class OneGrid:
    """The cells of one picture, [1, K, C]."""

    cells: Batch

    def __getitem__(self, places: Sequence[int]) -> OneGrid:
        return self

    def batch(self) -> Batch:
        return self.cells


class GridWriter:
    """A model of answers or of captions, asked as a writer is. What it says is the whole text."""

    encodes = True

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def __call__(
        self, asked: Sequence[Asked], how: GenerationConfig, *, batch_size: int, seed: int = 0, images: Any = None,
        precision: str = "float32", done: Callable[[int], None] = lambda rows: None,
    ) -> list[str]:  # fmt: skip
        """The likeliest answer to each source, or a caption of each picture. images: `Grids` of their pictures."""
        if how.do_sample:
            raise UserError("generation.do_sample: models of grids search and do not draw: leave it out")
        device = next(self.model.parameters()).device
        texts: list[str] = []
        for first in range(0, len(asked), batch_size):
            part = list(range(first, min(first + batch_size, len(asked))))
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                texts += self._say([asked[place].source for place in part], images[part].batch(), how)
            done(len(part))
        return texts

    def _say(self, sources: Sequence[str], grids: Batch, how: GenerationConfig) -> list[str]:
        if hasattr(self.model, "answer"):
            answers: list[str] = self.model.answer(sources, grids)
            return answers
        names = ("num_beams", "min_new_tokens", "length_penalty", "no_repeat_ngram_size", "max_new_tokens")
        options = {name: value for name in names if (value := getattr(how, name)) is not None}
        captions: list[str] = self.model.caption(grids, do_sample=False, **options)
        return captions
