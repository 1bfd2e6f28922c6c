"""A student's text encoder: a text model of any library, and how its tokens become one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmkd_cli.architectures.gpt2_bpe import bpe_files
from mmkd_cli.students import d2v2_text, transformers_text
from mmkd_cli.students.text_config import TextEncoderConfig

_LENGTH_GROUPS = 4
"""On a CPU a batch goes through in groups of texts of like length: captions are half padding otherwise."""


class TextEncoder(nn.Module):
    """Texts to one vector each.

    body: `TransformersText` or `D2v2Text`; gives hidden states [B, L, width], has `embeddings` and `save`.
    """

    def __init__(self, body: Any, config: TextEncoderConfig) -> None:
        super().__init__()
        self.body, self.pooling = body, config.pooling
        self.width: int = body.width
        body.embeddings.requires_grad_(config.trains_embeddings)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask int64 [B, L] -> [B, width]."""
        if input_ids.device.type != "cpu":  # asking for lengths would wait for the device
            return self._pooled(input_ids, attention_mask)
        order = attention_mask.sum(dim=1).argsort(stable=True)
        groups = order.tensor_split(_LENGTH_GROUPS if len(order) >= _LENGTH_GROUPS * 8 else 1)
        vectors = [self._pooled(*trimmed(input_ids[rows], attention_mask[rows])) for rows in groups]
        return torch.cat(vectors)[order.argsort()]

    def _pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return pooled(self.body(input_ids, attention_mask), attention_mask, self.pooling)

    def save(self, folder: Path) -> None:
        """Write it in its own library's layout."""
        self.body.save(folder)


def trimmed(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both [B, L] without the columns in which every text is padding."""
    longest = int(attention_mask.sum(dim=1).max())
    return input_ids[:, :longest], attention_mask[:, :longest]


def pooled(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """hidden [B, L, D], attention_mask [B, L] with padding behind the text -> [B, D]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "eos":
        last = attention_mask.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def text_files(config: TextEncoderConfig) -> dict[str, str]:
    """Key -> file or folder that decides a text encoder's first weights and its tokens; a hub id's local copy."""
    if config.text == "d2v2":
        folder = d2v2_text.tokenizer_folder(config.tokenizer, config.text_weights)
        named = {f"student.tokenizer/{name}": str(folder / name) for name in bpe_files(folder)}
        return named | ({"student.text_weights": config.text_weights} if config.text_weights else {})
    named = {"student.tokenizer": config.tokenizer} if config.tokenizer else {}
    if config.text == "transformers":
        named["student.text_weights"] = str(transformers_text.weights_folder(config))
    return named


def build_text_encoder(config: TextEncoderConfig, captions: Callable[[], Iterable[str]]) -> tuple[TextEncoder, Any]:
    """The encoder with its first weights, and its tokenizer. `captions` are read only where a tokenizer is trained."""
    body, tokenizer = d2v2_text.build(config) if config.text == "d2v2" else transformers_text.build(config, captions)
    return TextEncoder(body, config), tokenizer


def empty_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """The encoder on the meta device: sizes without weights."""
    return TextEncoder(d2v2_text.empty(config) if config.text == "d2v2" else transformers_text.empty(config), config)


def load_text_encoder(folder: Path, config: TextEncoderConfig) -> tuple[TextEncoder, Any]:
    """The encoder and tokenizer that were saved into `folder`."""
    body, tokenizer = (d2v2_text if config.text == "d2v2" else transformers_text).load(folder, config)
    return TextEncoder(body, config), tokenizer
