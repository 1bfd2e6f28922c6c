"""Text encoders of transformers: cut to their first layers, of random weights, or a plain pre-LN one from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, RobertaPreLayerNormConfig

from mmkd_cli.architectures.transformers_folder import (
    load_text_encoder,
    open_config,
    open_tokenizer,
    quiet_transformers,
)
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.students.text_config import TextEncoderConfig
from mmkd_cli.students.tokenizers import FixedLengthTokenizer, train_tokenizer

SCRATCH_VOCABULARY = 8192
SCRATCH_DEPTH = 2
DROPOUT_KEYS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "activation_dropout",
    "resid_pdrop", "embd_pdrop", "attn_pdrop",
)  # fmt: skip
"""What transformers' configurations call their dropout rates."""


class TransformersText(nn.Module):
    """A transformers model that gives `last_hidden_state`.

    Its pooler, if it has one, is neither used nor trained: it stays so that the saved folder is whole.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.config.hidden_size)
        if getattr(model, "pooler", None) is not None:
            model.pooler.requires_grad_(False)

    @property
    def embeddings(self) -> nn.Module:
        """The part with token and position tables."""
        for module in (self.model, getattr(self.model, "text_model", None)):
            found = getattr(module, "embeddings", None)
            if isinstance(found, nn.Module):
                return found
        raise UserError(f"{type(self.model).__name__} has no module 'embeddings': name another text encoder")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [B, L], [B, L] -> [B, L, width]."""
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden

    def save(self, folder: Path) -> None:
        """Write it in transformers' layout, for AutoModel."""
        with quiet_transformers():
            self.model.save_pretrained(folder)


def build(
    config: TextEncoderConfig, captions: Callable[[], Iterable[str]]
) -> tuple[TransformersText, FixedLengthTokenizer]:
    """The encoder with its first weights, and its tokenizer."""
    if config.text == "scratch":
        given = config.tokenizer
        vocabulary = config.vocabulary or SCRATCH_VOCABULARY
        tokenizer = open_tokenizer(Path(given)) if given else train_tokenizer(captions(), vocabulary, config.max_tokens)
        model = AutoModel.from_config(scratch_config(config, len(tokenizer), tokenizer.pad_token_id))
    else:
        found = transformers_config(config)
        folder = weights_folder(config)
        tokenizer = open_tokenizer(Path(config.tokenizer) if config.tokenizer else folder)
        # float32 in both cases: a folder's configuration may name the half precision that its weights have
        random = config.init == "random"
        model = AutoModel.from_config(found, dtype=torch.float32) if random else load_text_encoder(folder, found)
    return TransformersText(model), FixedLengthTokenizer(tokenizer, config.max_tokens)


def empty(config: TextEncoderConfig) -> TransformersText:
    """The encoder on the meta device. From scratch the vocabulary counts in full."""
    if config.text == "scratch":
        found = scratch_config(config, config.vocabulary or SCRATCH_VOCABULARY, pad_token_id=0)
    else:
        found = transformers_config(config)
    with torch.device("meta"):
        return TransformersText(AutoModel.from_config(found))


def load(folder: Path, config: TextEncoderConfig) -> tuple[TransformersText, FixedLengthTokenizer]:
    """What `save` of both wrote into `folder`."""
    with quiet_transformers():
        model = AutoModel.from_pretrained(folder, local_files_only=True)
    return TransformersText(model), FixedLengthTokenizer(open_tokenizer(folder), config.max_tokens)


def scratch_config(config: TextEncoderConfig, vocabulary: int, pad_token_id: int) -> PretrainedConfig:
    """A plain pre-LN transformer (transformers' RoBERTa-PreLayerNorm) of the config's sizes."""
    if config.width % config.heads:
        raise UserError(f"student.width {config.width} is not a multiple of student.heads {config.heads}: change one")
    return RobertaPreLayerNormConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depth or SCRATCH_DEPTH,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        max_position_embeddings=config.max_tokens + pad_token_id + 1,  # positions start behind the padding id
        type_vocab_size=1,
        pad_token_id=pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )


def transformers_config(config: TextEncoderConfig) -> PretrainedConfig:
    """The configuration of a folder or id, cut to `depth` layers, with our dropout."""
    folder = weights_folder(config)
    found = open_config(folder)
    if found.is_encoder_decoder or not hasattr(found, "num_hidden_layers"):
        raise UserError(f"{folder} ({found.model_type}) is no plain text encoder: name one such as BERT")
    if config.depth is not None:
        if config.depth > found.num_hidden_layers:
            raise UserError(
                f"student.depth {config.depth} is more than the {found.num_hidden_layers} layers of {folder}: "
                "make it smaller"
            )
        found.num_hidden_layers = config.depth
    for name in DROPOUT_KEYS:
        if hasattr(found, name):
            setattr(found, name, config.dropout)
    return found


def weights_folder(config: TextEncoderConfig) -> Path:
    """The folder of the text encoder that the config names, by path or hub id."""
    if config.text_weights is None:
        raise UserError("student.text_weights is needed: the folder or id of a transformers text encoder")
    return hub_folder(config.text_weights)
