"""What students that read pictures and texts themselves, each by its own blocks, have in common (F to Z of the notes).

A child sets `kind`, `head`, `projections` and `layers`, and says what its blocks give (`tokens`, `at_layer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import ImageEncoder
from mmkd_cli.core import paths, registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.pictures import Transform
from mmkd_cli.students.alignment import save_heads
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.text import trimmed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODALITIES = ("image", "text")
_HEADS = ("head.", "projections.")
_PLACES = {"image_weights", "text_weights", "tokenizer", "init_image", "init_text"}
"""Keys that say where a student's beginnings lie: no part of what is saved."""


class TwoModalitiesConfig(Config):
    """Keys of every such student."""

    name: str = key("", "the student")
    image_weights: str | None = key(None, "data2vec 2.0's image checkpoint (base_imagenet.pt)", identity=False)
    init_image: str | None = key(
        None, "run of the student encoder whose picture blocks it begins with, in place of image_weights",
        source="[S] stagewise distillation", identity=False,
    )  # fmt: skip
    init_text: str | None = key(
        None, "run of the student encoder whose text blocks it begins with, in place of text_weights",
        source="[S] stagewise distillation", identity=False,
    )  # fmt: skip
    freeze: tuple[str, ...] = key(
        (), "patterns of parameters' names that are not trained, as *.attn.*", source="[U] none", absent=()
    )
    init: Literal["pretrained", "random"] = key(
        "pretrained", "own blocks and embeddings: of the checkpoints, or random", source="[S][P] pretrained"
    )
    width: int = key(768, "width of data2vec 2.0; the feed-forward is four times it", source="[P] base", ge=8)
    heads: int = key(12, "attention heads of data2vec 2.0 and of what is shared", source="[P] base", ge=1)
    image_size: int = key(224, "side of a picture", unit="px", source="[S][P] 224", ge=16)
    patch_size: int = key(16, "side of a patch", unit="px", source="[P] data2vec 2.0 base", ge=1)
    max_tokens: int = key(64, "length of a text with its special tokens", unit="tokens", source="[S][P] 64", ge=3)
    dropout: float = key(0.0, "dropout in all blocks", source="[C] 0, or as in evaluation", ge=0, lt=1)


class TwoModalities(nn.Module):
    """A student of pictures and texts: how it is fed, embeds, is identified and saved."""

    kind: ClassVar[str]
    needs_pictures: ClassVar[bool] = True
    standardize: ClassVar[bool] = False
    image_signal: str | None = None
    head: nn.Module | None
    projections: nn.Module | None
    layers: tuple[str, ...]

    def __init__(self, config: Any, tokenizer: Any, signal: str, target_width: int, heads: Heads) -> None:
        super().__init__()
        self.config, self.signal, self.target_width, self.heads = config, signal, target_width, heads
        self._tokenizer = tokenizer
        self._loaded_from: Path | None = None

    def tokens(self, modality: str, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """A modality's tokens [B, L, D] at each stage of the student, `encoder` and `output` among them, the first one
        stands for all; bool [B, L], where they are no padding, None of pictures."""
        raise NotImplementedError

    def stages(self, modality: str, batch: Batch) -> dict[str, Tensor]:
        """A modality's first token [B, D] at each stage."""
        return {stage: tokens[:, 0] for stage, tokens in self.tokens(modality, batch)[0].items()}

    def at_layer(self, modality: str, stages: Mapping[str, Tensor], layer: str) -> Tensor:
        """[..., E] at one of `layers`, of [..., D] at each stage."""
        raise NotImplementedError

    def image_encoder(self) -> ImageEncoder:
        """The blocks of pictures alone, for what has no use for texts; UserError where they can't be."""
        raise UserError(f"pictures alone are no part of a run of {self.kind}: name a run of another student")

    def identity(self) -> dict[str, Any]:
        assert self._loaded_from is not None, "a student is identified by its folder"
        return {
            "student": self.kind,
            "model": sha256_file(self._loaded_from / "model"),
            "heads": sha256_file(self._loaded_from / "heads.safetensors"),
        }

    @property
    def picture_transform(self) -> Transform:
        """Squashed to a square with no crop (the notes' retrieval evaluation), ImageNet's mean and deviation."""
        side = self.config.image_size
        return Transform((side, side), "squash", side, "bicubic", IMAGENET_MEAN, IMAGENET_STD)

    @property
    def tokenize(self) -> Any:
        assert self._tokenizer is not None, "a student on the meta device has no tokenizer"
        return self._tokenizer

    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] of pixels."""
        with torch.no_grad():
            return self.vectors("image", batch, layer)

    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] of token ids."""
        with torch.no_grad():
            return self.vectors("text", batch, layer)

    def vectors(self, modality: str, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] at a layer (None: the last, which retrieval compares), with gradients. UserError: it has no such."""
        layer = layer or self.layers[-1]
        if layer not in self.layers:
            raise UserError(f"layer {layer!r} is not one of this student's{nearest(layer, self.layers)}")
        return self.at_layer(modality, self.stages(modality, batch), layer)

    def _pixels(self, batch: Batch) -> Tensor:
        """float32 [B, 3, H, W], normalised, on the student's device."""
        return self.picture_transform.normalize(batch["pixels"].to(self._device), torch.float32)

    def _tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """input_ids, attention_mask [B, L] on the student's device; on a CPU L is the longest text's."""
        input_ids, attention_mask = (batch[name].to(self._device) for name in ("input_ids", "attention_mask"))
        if self._device.type == "cpu":  # where asking for the longest text waits for nothing
            return trimmed(input_ids, attention_mask)
        return input_ids, attention_mask

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def save(self, folder: Path) -> None:
        """Write model/ and heads.safetensors."""
        raise NotImplementedError

    def _save_weights(self, folder: Path, apart: str | None = None) -> None:
        """Write model/model.safetensors, model/config.json (the keys) and heads.safetensors.

        apart: what the names of parameters begin with that lie in a file of their own.
        """
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        heads = {name: value for name, value in state.items() if name.startswith(_HEADS)}
        own = {name: value for name, value in state.items()
               if name not in heads and not (apart and name.startswith(apart))}  # fmt: skip
        save_file(own, folder / "model" / "model.safetensors")
        sizes = self.config.model_dump(mode="json", exclude=_PLACES)
        paths.write_json(folder / "model" / "config.json", {"model_type": self.kind, **sizes})
        save_heads(folder, heads, {**self.heads._asdict(), "signal": self.signal, "width": self.target_width})


def open_student(run: Path) -> TwoModalities:
    """The student in a run's folder, whatever else lies there."""
    table = paths.read_json(run / "model" / "config.json")
    made: TwoModalities = registry.load("students", table.pop("model_type")).load(run, {"student": table})
    return made
