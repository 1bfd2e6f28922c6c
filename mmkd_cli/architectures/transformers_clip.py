"""CLIP-like models (clip, siglip) in transformers' layout."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from mmkd_cli.architectures.transformers_folder import (
    TOKENIZER_FILES,
    folder_identity,
    load_pretrained,
    open_tokenizer,
    picture_transform,
    quiet_transformers,
)
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.data.pictures import Transform

MODEL_TYPES = ("clip", "siglip")


class TransformersClip:
    """A folder (or hub id) of a model with both towers."""

    image_parts: tuple[str, ...] = ("vision_model.", "visual_projection.")

    def __init__(self, name: str) -> None:
        self.folder = hub_folder(name)

    @cached_property
    def config(self) -> Any:
        config = AutoConfig.from_pretrained(self.folder, local_files_only=True)
        if config.model_type not in MODEL_TYPES:
            raise UserError(f"{self.folder} is a {config.model_type!r}, not one of {', '.join(MODEL_TYPES)}")
        return config

    @property
    def embedding_width(self) -> int:
        width = getattr(self.config, "projection_dim", None)  # SigLIP projects to the width of its towers
        return int(width or self.config.vision_config.hidden_size)

    @cached_property
    def picture_transform(self) -> Transform:
        return picture_transform(self.folder, self.config.vision_config.image_size)

    @cached_property
    def tokenize(self) -> FixedLength:
        return FixedLength(open_tokenizer(self.folder), self.config.text_config.max_position_embeddings)

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of configuration, weights and tokenizer; transform."""
        return {
            "library": "transformers",
            "files": folder_identity(self.folder, memory, tokenizer=True),
            "transform": self.picture_transform.identity(),
        }

    def build(self) -> nn.Module:
        """The model with random weights."""
        return AutoModel.from_config(self.config)

    def load(self) -> nn.Module:
        """The model with its weights."""
        self.config  # noqa: B018 (another model's folder is refused before its weights are read)
        return load_pretrained(AutoModel, self.folder)

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> [B, D], not normalised."""
        return model.get_image_features(pixel_values=pixels).pooler_output

    @property
    def cls_width(self) -> int:
        """SigLIP pools its tokens by attention and has no CLS."""
        if self.config.model_type != "clip":
            raise UserError(f"the image tower of {self.folder} has no CLS: set method.embedding=projected")
        return int(self.config.vision_config.hidden_size)

    def embed_images_with_cls(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels [B, 3, H, W] -> embedding [B, D], CLS behind the last norm [B, W]."""
        cls = model.vision_model(pixel_values=pixels).pooler_output
        return model.visual_projection(cls), cls

    def embed_texts(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask [B, L] -> [B, D], not normalised. SigLIP is trained without a mask."""
        mask = attention_mask if self.config.model_type == "clip" else None
        return model.get_text_features(input_ids=input_ids, attention_mask=mask).pooler_output

    def token_embeddings(self, model: Any) -> Tensor:
        """The text tower's table [V, W]."""
        return model.text_model.embeddings.token_embedding.weight

    def text_positions(self, model: Any) -> int:
        return int(model.text_model.embeddings.position_embedding.weight.shape[0])

    def run_text_blocks(self, model: Any, embedded: Tensor, bias: Tensor) -> Tensor:
        """Embedded tokens [B, L, W], attention bias [B, L, L] -> states [B, L, W] behind the last norm."""
        tower = model.text_model
        embedded = embedded + tower.embeddings.position_embedding.weight[: embedded.shape[1]]
        bias = bias[:, None].to(embedded.dtype)
        said = tower.encoder(inputs_embeds=embedded, attention_mask=bias, is_causal=False)
        return tower.final_layer_norm(said.last_hidden_state)

    def files(self) -> dict[str, str]:
        """The folder that decides the weights."""
        return {"weights": str(self.folder)}

    def save(self, model: Any, folder: Path) -> None:
        """Model, tokenizer and preprocessing as transformers reads them."""
        with quiet_transformers():
            model.save_pretrained(folder)
        for name in (*TOKENIZER_FILES, "preprocessor_config.json"):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)


class FixedLength:
    """A transformers tokenizer, every text padded or cut to max_tokens."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids, attention_mask int64 [B, max_tokens]."""
        coded = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt",
            return_attention_mask=True,
        )  # fmt: skip
        return {name: coded[name] for name in ("input_ids", "attention_mask")}
