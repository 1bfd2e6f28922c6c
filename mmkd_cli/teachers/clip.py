"""CLIP as a teacher, by open_clip or transformers: embeddings of pictures and texts in the space that they share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmkd_cli.architectures.clip_models import ClipModel, clip_model
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec, Tokenize
from mmkd_cli.data.pictures import Transform


class ClipConfig(Config):
    """An architecture of open_clip, or a model of transformers."""

    name: str = key("clip", "the teacher")
    arch: str | None = key(
        None, "open_clip's name (`ViT-B-32-quickgelu` for OpenAI's weights), `local-dir:FOLDER`; none: transformers",
        identity=False,
    )  # fmt: skip
    weights: str | None = key(
        None, "with an architecture its file or tag; without one a folder or id of transformers", identity=False
    )


class Clip:
    """`image_embedding`, `text_embedding`: projected, not normalised."""

    Config: ClassVar[type] = ClipConfig

    def __init__(self, config: ClipConfig) -> None:
        self.config = config
        self._model: Any = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _clip(self) -> ClipModel:
        return clip_model(self.config.arch, self.config.weights, "teacher")

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Architecture, SHA-256 of the weights, transform, tokenizer."""
        return self._clip.identity(memory)

    def signals(self) -> dict[str, SignalSpec]:
        width = self._clip.embedding_width
        return {
            "image_embedding": SignalSpec("image_embedding", "images", (width,)),
            "text_embedding": SignalSpec("text_embedding", "texts", (width,)),
        }

    @property
    def picture_transform(self) -> Transform:
        return self._clip.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        return self._clip.tokenize

    def parameters_count(self) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self._clip.build().parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        self._device, self._dtype = device, getattr(torch, dtype)
        self._model = self._clip.load().eval().requires_grad_(False).to(device, self._dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        said = {}
        if "image_embedding" in signals:
            pixels = self.picture_transform.normalize(batch["pixels"].to(self._device), self._dtype)
            said["image_embedding"] = self._clip.embed_images(self._model, pixels)
        if "text_embedding" in signals:
            tokens = {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}
            said["text_embedding"] = self._clip.embed_texts(self._model, **tokens)
        return said

    @torch.no_grad()
    def token_embedding(self, token: int | None) -> Tensor:
        """[D]: what the text tower says of a single token; None: of the one that begins each text."""
        ids = self.tokenize([""])["input_ids"][:, :1] if token is None else torch.tensor([[token]])
        ids = ids.to(self._device)
        return self._clip.embed_texts(self._model, ids, torch.ones_like(ids))[0]
