"""Any transformers text encoder as a teacher: the mean of its layers, and its first token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmkd_cli.architectures.text_layers import BERT_BASE, TextLayers, text_config
from mmkd_cli.architectures.transformers_clip import FixedLength
from mmkd_cli.architectures.transformers_folder import folder_identity, open_tokenizer
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.losses.layer_mean import layer_mean


class TextEncoderTeacherConfig(Config):
    """A folder or hub id of transformers."""

    name: str = key("text-encoder", "the teacher")
    weights: str = key(BERT_BASE, "folder or hub id", source="[P] F-DistilBERT: BERT base, uncased", identity=False)
    max_tokens: int = key(64, "length of a text, special tokens included", source="[C] TimCares/MasterThesis", ge=2)


class TextEncoderTeacher:
    """`text_embedding`, token 0 of the last block; `layer_mean` (losses.layer_mean) of the blocks' outputs, a row each
    token that is no padding."""

    Config: ClassVar[type] = TextEncoderTeacherConfig

    def __init__(self, config: TextEncoderTeacherConfig) -> None:
        self.config = config
        self.picture_transform = None
        self._model: TextLayers | None = None
        self._device = "cpu"

    @cached_property
    def _folder(self) -> Path:
        return hub_folder(self.config.weights)

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of configuration, weights and tokenizer; length."""
        files = folder_identity(self._folder, memory, tokenizer=True)
        return {"library": "transformers", "files": files, "max_tokens": self.config.max_tokens}

    def signals(self) -> dict[str, SignalSpec]:
        width = int(text_config(self.config.weights).hidden_size)
        return {
            "text_embedding": SignalSpec("text_embedding", "texts", (width,)),
            "layer_mean": SignalSpec(
                "layer_mean", "texts", (self.config.max_tokens, width), ragged=True, default=False
            ),
        }  # fmt: skip

    @cached_property
    def tokenize(self) -> FixedLength:
        return FixedLength(open_tokenizer(self._folder), self.config.max_tokens)

    def parameters_count(self) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in TextLayers.of(text_config(self.config.weights)).parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        self._device = device
        model = TextLayers.load(self._folder).eval().requires_grad_(False)
        self._model = model.to(device, getattr(torch, dtype))

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Any]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        input_ids, attention_mask = (batch[name].to(self._device) for name in ("input_ids", "attention_mask"))
        layers = self._model.layers(input_ids, attention_mask)
        said: dict[str, Tensor | list[Tensor]] = {"text_embedding": layers[-1][:, 0]}
        if "layer_mean" in signals:
            attend = attention_mask.bool()
            mean = layer_mean(layers, attend)
            said["layer_mean"] = [row[own] for row, own in zip(mean, attend, strict=True)]
        return {name: said[name] for name in signals}
