"""A CLIP by whichever library has it: open_clip's architectures, transformers' folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmkd_cli.core.contracts import Tokenize
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import Transform


class ClipModel(Protocol):
    """A model with both towers, as its library builds it; `model` is what `build` or `load` returned.

    image_parts: the parts of the model that see pictures, as prefixes of its parameters' names.
    """

    image_parts: tuple[str, ...]

    @property
    def embedding_width(self) -> int: ...

    @property
    def cls_width(self) -> int:
        """Of the image tower's CLS before the projection; UserError where it has none."""
        ...

    @property
    def picture_transform(self) -> Transform: ...

    @property
    def tokenize(self) -> Tokenize: ...

    def identity(self, memory: Path | None = None) -> dict[str, Any]: ...

    def files(self) -> dict[str, str]:
        """arch, weights -> the file or folder that decides it, else its name."""
        ...

    def build(self) -> nn.Module: ...

    def load(self) -> nn.Module: ...

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor: ...

    def embed_images_with_cls(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels [B, 3, H, W] -> embedding [B, D], CLS behind its last norm [B, W]."""
        ...

    def embed_texts(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor: ...

    def token_embeddings(self, model: Any) -> Tensor:
        """The text tower's table [V, W]; UserError where the tower is not CLIP's own."""
        ...

    def text_positions(self, model: Any) -> int:
        """How many tokens the text tower has positions for."""
        ...

    def run_text_blocks(self, model: Any, embedded: Tensor, bias: Tensor) -> Tensor:
        """Embedded tokens [B, L, W], attention bias [B, L, L] (see `attention_bias`) -> states [B, L, W] behind the
        last norm, through the text tower's own positions and blocks."""
        ...

    def save(self, model: Any, folder: Path) -> None:
        """Write the model so that its library opens the folder unchanged."""
        ...


def clip_model(arch: str | None, weights: str | None, what: str) -> ClipModel:
    """With an architecture open_clip's, weights a file or tag; without one transformers', weights a folder or id.

    what: the teacher or student, for the message where neither is named.
    """
    if arch is not None:
        from mmkd_cli.architectures.open_clip_models import OpenClipModel

        return OpenClipModel(arch, weights)
    if weights is None:
        raise UserError(
            f"{what} clip: name open_clip's architecture and weights (open_clip:ARCH:FILE), or a folder of "
            "transformers (hf:FOLDER)"
        )
    from mmkd_cli.architectures.transformers_clip import TransformersClip

    return TransformersClip(weights)


def saved_clip(folder: Path) -> ClipModel:
    """The model that `ClipModel.save` wrote into a folder."""
    if (folder / "open_clip_config.json").is_file():
        return clip_model(f"local-dir:{folder}", None, "run")
    return clip_model(None, str(folder), "run")


def attention_bias(attention_mask: Tensor, causal: bool) -> Tensor:
    """Added to attention's logits: 0 where a token (row) may see another (column), else -inf: [B, L] -> [B, L, L].

    No token is blind: the first one is seen even where a text is empty.
    """
    length = attention_mask.shape[1]
    seen = attention_mask.bool()[:, None, :].expand(-1, length, -1).clone()
    seen[:, :, 0] = True
    if causal:
        seen = seen & torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)
