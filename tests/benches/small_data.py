"""Prepared data of a few pictures and captions in memory, and a model whose embeddings are chosen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.data.pictures import Transform


def jpeg(colour: tuple[int, int, int]) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(data, "PNG")
    return data.getvalue()


@dataclass
class SmallArtifact:
    """As much of an artifact as a bench asks for."""

    source: str = "flickr8k"
    label: str = "data 'small'"

    @property
    def plan(self) -> dict[str, Any]:
        return {"config": {"source": {"name": self.source}}}


@dataclass
class SmallData:
    """captions[i]: the texts of picture i. orphans: texts without a picture. bad: rejected pictures."""

    captions: list[list[str]]
    orphans: list[str] = field(default_factory=list)
    bad: tuple[int, ...] = ()
    artifact: SmallArtifact = field(default_factory=SmallArtifact)

    def __post_init__(self) -> None:
        n = len(self.captions)
        pictures = [None if i in self.bad else {"bytes": jpeg((10 * i, 0, 0)), "path": None} for i in range(n)]
        texts = [(text, i) for i, own in enumerate(self.captions) for text in own] + [(t, -1) for t in self.orphans]
        self._tables = {
            "images": datasets.Dataset.from_dict(
                {"image_id": [f"{10 * i}" for i in range(n)], "image": pictures},
                features=datasets.Features({"image_id": datasets.Value("string"), "image": datasets.Image()}),
            ),
            "texts": datasets.Dataset.from_dict(
                {"text_id": [f"t{i}" for i in range(len(texts))], "text": [t for t, _ in texts],
                 "image_row": [i for _, i in texts]}
            ),
        }  # fmt: skip

    def table(self, name: str, split: str) -> datasets.Dataset:
        assert split == "test"
        return self._tables[name]

    def rejected(self, split: str, table: str) -> np.ndarray:
        return np.array(self.bad if table == "images" else (), dtype=np.int64)


class ChosenModel:
    """Pictures embed as column `red/10` of the identity, texts as the word's number says; `layers` scale nothing.

    A text "3 1" is one-hot 3 plus a tenth of one-hot 1. With image_signal it refuses pixels.
    """

    layers = ("encoder", "projection")

    def __init__(self, width: int = 16, image_signal: str | None = None) -> None:
        self.width, self.image_signal = width, image_signal
        self.asked: list[str | None] = []

    def identity(self) -> dict[str, Any]:
        return {"chosen": self.width}

    @property
    def picture_transform(self) -> Transform:
        return Transform(size=(8, 8), resize="squash", resize_size=8)

    def tokenize(self, texts: Any) -> dict[str, Tensor]:
        ids = torch.tensor([[int(word) for word in [*text.split(), "-1"][:2]] for text in texts])
        return {"input_ids": ids, "attention_mask": (ids >= 0).long()}

    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        self.asked.append(layer)
        if self.image_signal is not None:
            return batch[self.image_signal]
        number = (batch["pixels"][:, 0].float().mean(dim=(1, 2)) / 10).round().long()
        return 5.0 * torch.eye(self.width)[number]

    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        first, second = batch["input_ids"].T
        return torch.eye(self.width)[first] + 0.1 * torch.eye(self.width)[second] * (second >= 0)[:, None]


class ChosenTargets:
    """A cached signal [rows, width] of the split."""

    def __init__(self, signal: Tensor) -> None:
        self.signal = signal
        self.n_views = 0
        self.specs = {"image_cls": SignalSpec("image_cls", "images", tuple(signal.shape[1:]))}
        self.gathered: list[int] = []

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        assert list(signals) == ["image_cls"] and views is None
        self.gathered += rows.tolist()
        return {"image_cls": self.signal[torch.from_numpy(rows)]}
