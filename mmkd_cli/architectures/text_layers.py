"""A transformers text encoder (BERT and its kin), block after block, whole or cut to some of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from mmkd_cli.architectures.transformers_folder import (
    dropout_options,
    load_text_encoder,
    open_config,
    quiet_transformers,
)
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder

BERT_BASE = "google-bert/bert-base-uncased"


def text_config(name: str) -> Any:
    """The configuration of a folder or hub id; BERT base's is known without its files."""
    try:
        config = open_config(hub_folder(name))
    except UserError:
        if name != BERT_BASE:
            raise
        return AutoConfig.for_model("bert")  # transformers' defaults are BERT base's
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise UserError(f"{name} ({config.model_type}) is no plain text encoder: name one such as BERT")
    return config


class TextLayers(nn.Module):
    """A transformers text encoder without its pooler."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.model = model
        self.width = int(model.config.hidden_size)

    @classmethod
    def of(cls, config: Any, depth: int | None = None, dropout: float | None = None) -> TextLayers:
        """Random weights, float32. depth, dropout: None for the configuration's own."""
        if depth is not None:
            config.num_hidden_layers = depth
        for name, value in dropout_options(config, dropout).items():
            setattr(config, name, value)
        return cls(AutoModel.from_config(config, dtype=torch.float32))

    @classmethod
    def load(cls, folder: Path, blocks: Sequence[int] | None = None, dropout: float | None = None) -> TextLayers:
        """The weights of a folder; blocks: those that are kept, in their order. dropout: None for the folder's own."""
        config = open_config(folder)
        for name, value in dropout_options(config, dropout).items():
            setattr(config, name, value)
        model = load_text_encoder(folder, config)
        if blocks is not None:
            _keep(model, blocks, folder)
        return cls(model)

    def layers(self, input_ids: Tensor, attention_mask: Tensor, offset: Tensor | None = None) -> tuple[Tensor, ...]:
        """The output of each block for int64 [B, L], [B, L]: [B, L, width] each. offset [width]: added to what the
        embeddings give."""
        handle = None
        if offset is not None:
            handle = self.model.embeddings.register_forward_hook(lambda module, given, said: said + offset)
        try:
            said = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        finally:
            if handle is not None:
                handle.remove()
        blocks: tuple[Tensor, ...] = said.hidden_states[1:]  # the first is the embeddings'
        return blocks

    def save(self, folder: Path) -> None:
        """Write it in transformers' layout, for AutoModel."""
        with quiet_transformers():
            self.model.save_pretrained(folder)


def _keep(model: Any, blocks: Sequence[int], folder: Path) -> None:
    """Leave only these of the model's blocks."""
    count = model.config.num_hidden_layers
    if max(blocks) >= count:
        raise UserError(f"{folder} has {count} blocks, number {max(blocks) + 1} was asked for: ask for fewer")
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if len(lists) != 1:
        raise UserError(f"{folder} ({model.config.model_type}) has no one list of {count} blocks: name a BERT")
    kept = [lists[0][block] for block in blocks]
    del lists[0][:]
    lists[0].extend(kept)
    model.config.num_hidden_layers = len(kept)
