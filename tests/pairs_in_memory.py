"""Pairs of texts and pictures with a teacher's signal, as a distillation opens them, without a disk."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmkd_cli.core.contracts import SignalSpec, TrainingData, View

WORDS = ("red", "blue", "dog", "cat", "runs", "sleeps", "on", "the", "bed", "grass")


class MemoryTargets:
    """image_cls of [pictures, (views,) width] random numbers; a view is known by the crop it is."""

    def __init__(self, pictures: int, width: int, n_views: int = 0, seed: int = 0) -> None:
        shape = (pictures, n_views, width) if n_views else (pictures, width)
        self.values = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 1
        self.n_views = n_views
        self.specs: Mapping[str, SignalSpec] = {"image_cls": SignalSpec("image_cls", "images", (width,))}

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        assert list(signals) == ["image_cls"]
        found = self.values[torch.as_tensor(rows)]
        return {"image_cls": found if views is None else found[torch.arange(len(rows)), torch.as_tensor(views)]}

    def view_of(self, row: int, view: int) -> View:
        return View(left=0.25 * view, width=0.25)


class MemoryStates:
    """text_states of [texts, tokens, width] random numbers; with the shape of a latent latents [pictures, C, h, w]."""

    n_views = 0

    def __init__(self, texts: int, shape: tuple[int, int], seed: int = 0, pictures: int = 0,
                 latent: tuple[int, int, int] | None = None) -> None:  # fmt: skip
        draw = torch.Generator().manual_seed(seed)
        self.values = torch.randn((texts, *shape), generator=draw).bfloat16()
        self.specs: dict[str, SignalSpec] = {"text_states": SignalSpec("text_states", "texts", shape)}
        if latent is not None:
            self.latents = torch.randn((pictures, *latent), generator=draw).bfloat16()
            self.specs["latents"] = SignalSpec("latents", "images", latent)

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        (signal,) = signals
        assert signal in self.specs and views is None
        return {signal: (self.values if signal == "text_states" else self.latents)[torch.as_tensor(rows)]}


class MemoryEmbeddings:
    """image_embedding of [pictures, width] and text_embedding of [texts, width] random numbers, bf16 as caches are."""

    n_views = 0

    def __init__(self, pictures: int, texts: int, width: int, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.values = {
            "image_embedding": torch.randn((pictures, width), generator=draw).bfloat16(),
            "text_embedding": torch.randn((texts, width), generator=draw).bfloat16(),
        }
        self.specs: Mapping[str, SignalSpec] = {
            "image_embedding": SignalSpec("image_embedding", "images", (width,)),
            "text_embedding": SignalSpec("text_embedding", "texts", (width,)),
        }

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        assert len(signals) == 1 and views is None
        return {signals[0]: self.values[signals[0]][torch.as_tensor(rows)]}


def picture(row: int) -> bytes:
    """32 x 32, four columns of a row's own greys."""
    values = np.repeat(np.arange(4, dtype=np.uint8) * 10 + row * 4, 8)
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.tile(values, (32, 1))[..., None], 3, axis=2)).save(buffer, "PNG")
    return buffer.getvalue()


def captions_of(pictures: int, per_picture: int, seed: int) -> list[str]:
    """Texts in the order picture 0's first, picture 1's first, ..., picture 0's second, ..."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 2 + i % 4)) for i in range(pictures * per_picture)]


def pairs(
    pictures: int = 8, per_picture: int = 3, width: int = 12, n_views: int = 0, name: str = "pairs",
    splits: Sequence[str] = ("train", "val"), rejected: Mapping[tuple[str, str], Sequence[int]] | None = None,
    states: tuple[int, int] | None = None, joint: int | None = None, latent: tuple[int, int, int] | None = None,
) -> TrainingData:  # fmt: skip
    """One opened data set; texts that belong to no picture stand at the end of each split.

    states: tokens and width of text_states, in the place of image_cls. latent: of the latents beside them. joint: width
    of both embeddings, likewise.
    """
    tables: dict[str, dict[str, Any]] = {}
    targets: dict[str, MemoryTargets | MemoryStates | MemoryEmbeddings] = {}
    for seed, split in enumerate(splits):
        texts = [*captions_of(pictures, per_picture, seed), "no picture at all"]
        owners = [*(i % pictures for i in range(pictures * per_picture)), -1]
        tables[split] = {
            "texts": datasets.Dataset.from_dict(
                {"text_id": [str(i) for i in range(len(texts))], "text": texts, "image_row": owners}
            ),
            "images": datasets.Dataset.from_dict(
                {
                    "image_id": [str(i) for i in range(pictures)],
                    "image": [{"bytes": picture(i), "path": None} for i in range(pictures)],
                },
                features=datasets.Features({"image_id": datasets.Value("string"), "image": datasets.Image()}),
            ),
        }
        if joint:
            targets[split] = MemoryEmbeddings(pictures, len(texts), joint, seed)
            continue
        targets[split] = (
            MemoryStates(len(texts), states, seed, pictures, latent)
            if states
            else MemoryTargets(pictures, width, n_views, seed)
        )
    refused = rejected or {}
    return TrainingData(
        name, 1.0, tuple(splits), tables.__getitem__, targets.get,
        lambda split, table: np.array(refused.get((split, table), ()), dtype=np.int64),
    )  # fmt: skip
