"""What `generate` asks of models that see the cells of a grid: they take a writer's place (`architectures.writer`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.architectures.writer import Asked
from mmkd_cli.core.contracts import Batch, Targets
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.grid_transform import recorded_transform
from mmkd_cli.data.signals import GRID, GRID_BOXES, GRID_MASK, GRID_SIZE, padded
from mmkd_cli.reports.heat import Field, heated, over_cells, over_regions
from mmkd_cli.students.cells import grid_batch, grid_names
from mmkd_cli.students.sight import Look, own_transform, seen

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmkd_cli.cache.reader import Cache


@dataclass(frozen=True)
class Grids:
    """Cells of pictures, or the pictures, read a batch at a time. rows int64 [n], of P pictures each [n, P]: of the
    images table."""

    look: Look
    rows: np.ndarray

    def __getitem__(self, places: Any) -> Grids:
        return Grids(self.look, self.rows[np.asarray(places, dtype=int)])

    def batch(self) -> Batch:
        return self.look(self.rows)


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
        if (transform := own_transform(self.model)) is not None:
            return OneGrid({"pixels": [transform(picture)]})
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


@dataclass(frozen=True)
class CellHeat:
    """`core.contracts.Heat` of a model that answers from cells: those that targets hold, or those of its own tower.

    transform: of the pictures that were seen; None where there was none, and the grid is taken to lie over the whole.
    """

    model: Any
    targets: Targets | None
    transform: Any

    @classmethod
    def of(cls, model: Any, cache: Cache | None, split: str) -> CellHeat | None:
        """None where the model says nothing of what it looks at, or the cache nothing of where its cells lie."""
        if not hasattr(model, "attention"):
            return None
        if model.tower is not None:
            return cls(model, None, model.tower.transform)
        targets = cache.targets(split) if cache is not None else None
        if cache is None or targets is None or not {GRID_SIZE, GRID_BOXES} & targets.specs.keys():
            return None
        said = cache.artifact.plan["identity"]["teacher"].get("transform")
        return cls(model, targets, recorded_transform(said) if said else None)

    @torch.no_grad()
    def __call__(self, asked: str, rows: Sequence[int], pictures: Sequence[Image]) -> list[Image]:
        model = self.model.eval()
        if self.targets is None:
            found = model.tower([self.transform(picture) for picture in pictures])
            many = found[GRID].shape[1]
        else:
            found = self.targets.gather(grid_names(self.targets), np.array(rows))
            many = self.targets.specs[GRID].shape[0]
        cells = grid_batch(found, many, model.config.mask_padding)
        if len(rows) > 1:
            cells = {name: value[None] for name, value in cells.items()}
        shares = model.attention([asked], cells).view(len(rows), -1).cpu().double().numpy()
        said = {name: padded(value).cpu().numpy() for name, value in found.items() if name != GRID}
        return [
            heated(picture, self._field(share, {name: value[place] for name, value in said.items()}, picture.size))
            for place, (picture, share) in enumerate(zip(pictures, shares, strict=True))
        ]

    def _field(self, share: np.ndarray, said: dict[str, np.ndarray], size: tuple[int, int]) -> Field:
        """share [K]: of the cells; said: a picture's signals."""
        if GRID_BOXES in said:
            boxes = said[GRID_BOXES].astype(np.float64)
            return over_regions(share[: len(boxes)], boxes)
        shape = tuple(int(side) for side in said[GRID_SIZE])
        many = shape[0] * shape[1]
        there = said[GRID_MASK][:many].astype(bool) if GRID_MASK in said else np.ones(many, dtype=bool)
        seen = self.transform.seen(*size) if self.transform else (0.0, 0.0, 1.0, 1.0)
        return over_cells(share[:many].reshape(shape), there.reshape(shape), seen)


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
        with torch.no_grad():
            grids = seen(self.model, grids)
        if hasattr(self.model, "answer"):
            answers: list[str] = self.model.answer(sources, grids)
            return answers
        names = ("num_beams", "min_new_tokens", "length_penalty", "no_repeat_ngram_size", "max_new_tokens")
        options = {name: value for name in names if (value := getattr(how, name)) is not None}
        captions: list[str] = self.model.caption(grids, do_sample=False, **options)
        return captions
