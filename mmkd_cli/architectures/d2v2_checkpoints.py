"""data2vec 2.0 checkpoints of fairseq, {"cfg": ..., "model": ...}, into the modules of d2v2.py.

Sizes are read off the tensors. What only training used is dropped by name: the decoder and the moving average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mmkd_cli.architectures.d2v2 import PAD_ID, ImageEncoder, Sizes, TextEncoder
from mmkd_cli.architectures.state_dicts import load_strictly, tensors_of
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.pickles import read_torch

HEAD_WIDTH = 64
IMAGE_NAMES = {
    "modality_encoders.IMAGE.local_encoder.proj.": "embed.proj.",
    "modality_encoders.IMAGE.extra_tokens": "embed.cls_token",
    "modality_encoders.IMAGE.fixed_positional_encoder.positions": "embed.positions",
    "modality_encoders.IMAGE.context_encoder.norm.": "embed.norm.",
    "blocks.": "blocks.",
}
TEXT_NAMES = {
    "modality_encoders.TEXT.local_encoder.embed_tokens.": "embed.tokens.",
    "modality_encoders.TEXT.local_encoder.embed_positions.": "embed.positions.",
    "modality_encoders.TEXT.local_encoder.layernorm_embedding.": "embed.norm.",
    "blocks.": "blocks.",
}
TRAINING_ONLY = ("_ema", "modality_encoders.IMAGE.decoder.", "modality_encoders.TEXT.decoder.", "shared_decoder.")


def load_image_checkpoint(
    path: Path, *, depth: int | None = None, heads: int | None = None, dropout: float = 0.0
) -> ImageEncoder:
    """The image model of a fairseq checkpoint; of `depth`, its first blocks."""
    content = _read(path)
    state = own_names(content["model"], IMAGE_NAMES)
    model = ImageEncoder(image_sizes(state, path, _heads(content, heads)), dropout)
    load_strictly(model, state, "data2vec 2.0's image model", path)
    return _cut(model, depth, path)


def load_text_checkpoint(
    path: Path, *, depth: int | None = None, heads: int | None = None, dropout: float = 0.0
) -> TextEncoder:
    """The text model of a fairseq checkpoint; of `depth`, its first blocks."""
    content = _read(path)
    state = own_names(content["model"], TEXT_NAMES)
    model = TextEncoder(text_sizes(state, path, _heads(content, heads)), dropout)
    load_strictly(model, state, "data2vec 2.0's text model", path)
    return _cut(model, depth, path)


def checkpoint_sizes(path: Path, modality: str, heads: int | None = None) -> Sizes:
    """Sizes of the `image` or `text` model in a checkpoint; no weights are read."""
    content = _read(path, device="meta")
    if modality == "image":
        return image_sizes(own_names(content["model"], IMAGE_NAMES), path, _heads(content, heads))
    return text_sizes(own_names(content["model"], TEXT_NAMES), path, _heads(content, heads))


def modality_of(path: Path) -> str:
    """`image` or `text`, by the modality encoder that a checkpoint holds."""
    names = _read(path, device="meta")["model"]
    for modality in ("IMAGE", "TEXT"):
        if any(name.startswith(f"modality_encoders.{modality}.local_encoder.") for name in names):
            return modality.lower()
    raise UserError(f"{path} holds no data2vec 2.0 model of images or text: name base_imagenet.pt or nlp_base.pt")


def image_sizes(state: Mapping[str, Tensor], path: Path, heads: int | None) -> Sizes:
    """Sizes of an image model by its tensors."""
    width, _, patch, _ = _shape(state, "embed.proj.weight", 4, path)
    _, patches, _ = _shape(state, "embed.positions", 3, path)
    grid = round(patches**0.5)
    return Sizes(
        width, _depth(state), heads or width // HEAD_WIDTH, _shape(state, "blocks.0.mlp.fc1.weight", 2, path)[0],
        image_size=grid * patch, patch_size=patch,
    )  # fmt: skip


def text_sizes(state: Mapping[str, Tensor], path: Path, heads: int | None) -> Sizes:
    """Sizes of a text model by its tensors."""
    vocabulary, width = _shape(state, "embed.tokens.weight", 2, path)
    positions, _ = _shape(state, "embed.positions.weight", 2, path)
    return Sizes(
        width, _depth(state), heads or width // HEAD_WIDTH, _shape(state, "blocks.0.mlp.fc1.weight", 2, path)[0],
        vocabulary=vocabulary, max_tokens=positions - PAD_ID - 1,
    )  # fmt: skip


def _read(path: Path, device: str = "cpu") -> dict[str, Any]:
    """{"cfg", "model"}: tensors only in the model, plain values or stand-ins in the rest."""
    if not Path(path).is_file():
        raise UserError(f"weights {path} are not there: name a data2vec 2.0 checkpoint of fairseq")
    content = read_torch(path, stand_ins=True, device=device)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(f"{path} has no table 'model': name a data2vec 2.0 checkpoint of fairseq")
    return {"cfg": content.get("cfg"), "model": tensors_of(content["model"], path)}


def _heads(content: Mapping[str, Any], asked: int | None) -> int | None:
    """Attention heads: those asked for, else those that a configuration of plain values names."""
    cfg = content["cfg"]
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    named = model.get("num_heads") if isinstance(model, Mapping) else None
    return asked or (named if isinstance(named, int) and named > 0 else None)


def own_names(model: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A checkpoint's weights under the names of d2v2.py, without what only training used."""
    state = {}
    for name, value in model.items():
        if name.startswith(TRAINING_ONLY):
            continue
        prefix = next((prefix for prefix in names if name.startswith(prefix)), None)
        state[name if prefix is None else names[prefix] + name.removeprefix(prefix)] = value
    return state


def _depth(state: Mapping[str, Tensor]) -> int:
    return 1 + max((int(name.split(".")[1]) for name in state if name.startswith("blocks.")), default=-1)


def _shape(state: Mapping[str, Tensor], name: str, axes: int, path: Path) -> tuple[int, ...]:
    value = state.get(name)
    if value is None or value.ndim != axes:
        found = "is missing" if value is None else f"has the shape {list(value.shape)}"
        raise UserError(f"{path} is not of data2vec 2.0's layout ({name!r} {found}): name a checkpoint of fairseq")
    return tuple(value.shape)


def _cut(model: Any, depth: int | None, path: Path) -> Any:
    if depth is not None:
        if depth > len(model.blocks):
            raise UserError(f"{path} has {len(model.blocks)} blocks, {depth} were asked for: ask for fewer")
        model.blocks = model.blocks[:depth]
        model.sizes = replace(model.sizes, depth=depth)
    return model
