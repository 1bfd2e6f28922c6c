"""Pictures with a caption each as training rows, and what score distillation asks of a row beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, PictureTransform, Position, Targets, Tokenize, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import PICTURES
from mmkd_cli.data.signals import dense
from mmkd_cli.data.viewed import pixels_of
from mmkd_cli.training.randomness import generator


@dataclass
class ScoreInputs:
    """Captions' cached text states, noise, and time steps; in the first steps the pictures' cached latents instead.

    shape: of a latent. timesteps: the first and the last that are drawn. part: of the random key, one a split.
    latent_steps: how many steps take latents.
    """

    targets: Targets
    shape: tuple[int, int, int]
    timesteps: tuple[int, int]
    seed: int
    part: str
    latent_steps: int = 0

    def load(self, text_rows: np.ndarray, image_rows: np.ndarray, at: Position) -> Batch:
        """text_states [B, L, D] as stored, noise float32 [B, C, h, w], timestep int64 [B]; or latents [B, C, h, w].

        Noise and time step of a row depend on its step and its place in the global batch, and on nothing else.
        """
        if at.step < self.latent_steps:
            return {"latents": dense(self.targets.gather(["latents"], image_rows)["latents"])}
        first, last = self.timesteps
        noise = np.empty((len(text_rows), *self.shape), dtype=np.float32)
        timesteps = np.empty(len(text_rows), dtype=np.int64)
        for place in range(len(text_rows)):
            draw = generator(self.seed, "noise", self.part, at.step, at.first + place)
            timesteps[place] = draw.integers(first, last + 1)
            noise[place] = draw.standard_normal(self.shape, dtype=np.float32)
        return {
            "text_states": dense(self.targets.gather(["text_states"], text_rows)["text_states"]),
            "noise": torch.from_numpy(noise),
            "timestep": torch.from_numpy(timesteps),
        }


@dataclass
class CaptionedPictures:
    """Pictures of one split and their captions (`core.contracts.Feed`).

    text_rows int64 [captions]: of the texts table, those of one picture together; owners int64 [captions]: the row of
    each one's picture in the images table; starts int64 [pictures + 1]: where a picture's captions begin.
    every_caption: each caption is a row; else each picture is one, with a caption that epoch and seed choose.
    number: of the data set among those of the run; with the row it tells pictures apart.
    """

    name: str
    weight: float
    text_rows: np.ndarray
    owners: np.ndarray
    starts: np.ndarray
    every_caption: bool
    texts: Any
    images: Any
    tokenize: Tokenize
    transform: PictureTransform
    seed: int
    part: str
    number: int = 0
    scores: ScoreInputs | None = None
    stream: str = ""

    @property
    def rows(self) -> int:
        return len(self.text_rows) if self.every_caption else len(self.starts) - 1

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """input_ids and attention_mask [B, L], pixels uint8 [B, 3, H, W], picture int64 [B] (equal where two rows show
        the same picture), and what `scores` gives."""
        chosen = np.asarray(rows) if self.every_caption else self._captions_of(rows, at.epoch)
        text_rows, image_rows = self.text_rows[chosen], self.owners[chosen]
        return {
            **self.tokenize(self.texts[text_rows.tolist()].column("text").to_pylist()),
            "pixels": torch.stack(pixels_of(self.images, image_rows, self.transform)),
            "picture": torch.from_numpy(image_rows + self.number * PICTURES),
            **(self.scores.load(text_rows, image_rows, at) if self.scores is not None else {}),
        }

    def _captions_of(self, pictures: np.ndarray, epoch: int) -> np.ndarray:
        """A caption of each picture, as a place in text_rows."""
        return np.array(
            [
                generator(self.seed, "caption", self.part, self.number, epoch, int(one)).integers(
                    self.starts[one], self.starts[one + 1]
                )
                for one in pictures
            ],
            dtype=np.int64,
        )


def captioned_pictures(
    data: TrainingData, split: str, tokenize: Tokenize, transform: PictureTransform, *, seed: int, number: int,
    every_caption: bool, scores: ScoreInputs | None,
) -> CaptionedPictures:  # fmt: skip
    """The pictures of a split that have a caption, and were not rejected."""
    tables = data.tables(split)
    for table in ("texts", "images"):
        if table not in tables:
            raise UserError(
                f"data {data.name!r} has no table {table!r} in {split!r}: CLIP needs pictures with captions"
            )
    texts: Any = tables["texts"]
    images: Any = tables["images"]
    owners = np.asarray(texts.with_format("numpy")["image_row"][:], dtype=np.int64)
    usable = (owners >= 0) & ~np.isin(owners, data.rejected(split, "images"))
    usable[data.rejected(split, "texts")] = False
    text_rows = np.flatnonzero(usable)
    text_rows = text_rows[np.argsort(owners[text_rows], kind="stable")]
    _, firsts = np.unique(owners[text_rows], return_index=True)
    return CaptionedPictures(
        data.name, data.weight, text_rows, owners[text_rows], np.append(firsts, len(text_rows)), every_caption,
        texts.select_columns("text").with_format("arrow"), images.select_columns("image").with_format("arrow"),
        tokenize, transform, seed, split, number, scores,
    )  # fmt: skip
