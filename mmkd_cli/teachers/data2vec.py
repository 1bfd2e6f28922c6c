"""data2vec (Baevski et al. 2022) by transformers as a teacher: its vision or its text model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, Data2VecTextModel, Data2VecVisionModel

from mmkd_cli.architectures.transformers_clip import FixedLength
from mmkd_cli.architectures.transformers_folder import (
    folder_identity,
    load_pretrained,
    open_tokenizer,
    picture_transform,
)
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.data.pictures import Transform

MODELS: dict[str, Any] = {"data2vec-vision": Data2VecVisionModel, "data2vec-text": Data2VecTextModel}


class Data2VecConfig(Config):
    """A folder or hub id of transformers."""

    name: str = key("data2vec", "the teacher")
    weights: str = key(
        "facebook/data2vec-vision-base", "folder, or id such as facebook/data2vec-text-base", source="[P] data2vec",
        identity=False,
    )  # fmt: skip
    max_tokens: int = key(64, "length of a text, special tokens included", source="[C] TimCares/MasterThesis", ge=2)


class Data2Vec:
    """Of images `image_cls`, `image_tokens`, not normalised (the library's norm is for the mean of patches alone);

    of texts `text_embedding`, token 0 of the last block.
    """

    Config: ClassVar[type] = Data2VecConfig

    def __init__(self, config: Data2VecConfig) -> None:
        self.config = config
        self._model: Any = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _folder(self) -> Path:
        return hub_folder(self.config.weights)

    @cached_property
    def _architecture(self) -> Any:
        found = AutoConfig.from_pretrained(self._folder, local_files_only=True)
        if found.model_type not in MODELS:
            raise UserError(
                f"{self._folder} is a {found.model_type!r}, not one of {', '.join(MODELS)}: name a folder of data2vec"
            )
        return found

    @property
    def _of_images(self) -> bool:
        return bool(self._architecture.model_type == "data2vec-vision")

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of configuration, weights and tokenizer; transform or length."""
        transform = self.picture_transform
        seen = {"transform": transform.identity()} if transform else {"max_tokens": self.config.max_tokens}
        files = folder_identity(self._folder, memory, tokenizer=not self._of_images)
        return {"library": "transformers", "files": files, **seen}

    def signals(self) -> dict[str, SignalSpec]:
        config = self._architecture
        if not self._of_images:
            return {"text_embedding": SignalSpec("text_embedding", "texts", (config.hidden_size,))}
        tokens = 1 + (config.image_size // config.patch_size) ** 2
        return {
            "image_cls": SignalSpec("image_cls", "images", (config.hidden_size,)),
            "image_tokens": SignalSpec("image_tokens", "images", (tokens, config.hidden_size), default=False),
        }

    @cached_property
    def picture_transform(self) -> Transform | None:
        return picture_transform(self._folder, self._architecture.image_size) if self._of_images else None

    @cached_property
    def tokenize(self) -> FixedLength | None:
        return None if self._of_images else FixedLength(open_tokenizer(self._folder), self.config.max_tokens)

    def _build(self) -> nn.Module:
        model: nn.Module = MODELS[self._architecture.model_type](self._architecture, add_pooling_layer=False)
        return model

    def parameters_count(self) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self._build().parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        self._device, self._dtype = device, getattr(torch, dtype)
        model = load_pretrained(MODELS[self._architecture.model_type], self._folder, add_pooling_layer=False)
        self._model = model.eval().requires_grad_(False).to(device, self._dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        if self.picture_transform is not None:
            pixels = self.picture_transform.normalize(batch["pixels"].to(self._device), self._dtype)
            tokens = self._model(pixel_values=pixels).last_hidden_state
        else:
            given = {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}
            tokens = self._model(**given).last_hidden_state
        said = {"image_cls": tokens[:, 0], "image_tokens": tokens, "text_embedding": tokens[:, 0]}
        return {name: said[name] for name in signals}
