"""Text encoders: transformers' own cut to their first layers, a pre-LN transformer from scratch, data2vec 2.0's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, RobertaPreLayerNormConfig
from transformers.utils import logging

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.tokenizers import FixedLengthTokenizer, open_tokenizer, train_tokenizer

_DROPOUT_KEYS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "activation_dropout",
    "resid_pdrop", "embd_pdrop", "attn_pdrop",
)  # fmt: skip
"""What transformers' configurations call their dropout rates."""


class TextEncoderConfig(Config):
    """Keys of a student's text encoder."""

    text: Literal["d2v2", "transformers", "scratch"] = key(
        "d2v2", "data2vec 2.0's text blocks, any transformers text encoder, or a plain pre-LN transformer",
        source="[S] MM-D2V2: data2vec 2.0",
    )  # fmt: skip
    text_weights: str | None = key(
        None, "d2v2: the checkpoint file; transformers: a folder or hub id; scratch: none", identity=False
    )
    init: Literal["pretrained", "random"] = key(
        "pretrained", "weights of the checkpoint, or its architecture with random ones", source="[S] MM-D2V2"
    )
    depth: int | None = key(
        7, "first layers that are kept or made (None: all of the checkpoint's)", unit="layers",
        source="[S] MM-D2V2: 7; [C] 6", ge=1,
    )  # fmt: skip
    width: int = key(768, "width of d2v2 and scratch; the feed-forward is four times it", source="[P] base", ge=8)
    heads: int = key(12, "attention heads of d2v2 and scratch", source="[P] base", ge=1)
    vocabulary: int = key(
        8192, "most tokens of a tokenizer trained for a model from scratch", unit="tokens",
        source="[U] holds nearly all words of a caption set", ge=32,
    )  # fmt: skip
    tokenizer: str | None = key(
        None, "folder or id of a tokenizer (None: the one beside the weights; scratch: trained on the captions)",
        identity=False,
    )  # fmt: skip
    max_tokens: int = key(64, "length of a text with its special tokens", unit="tokens", source="[S] 64", ge=3)
    pooling: Literal["cls", "mean", "eos"] = key(
        "cls", "the text's vector: first token ([CLS], <s>), mean of all tokens, or last token",
        source="[S] MM-D2V2: T_CLS, the first token",
    )  # fmt: skip
    dropout: float = key(0.0, "dropout everywhere in the text encoder", source="[C] MM-D2V2's config: 0", ge=0, lt=1)
    embeddings: Literal["frozen", "trained"] | None = key(
        None, "token and position embeddings with their norm (None: frozen where a checkpoint gives them)",
        source="[S] MM-D2V2: frozen",
    )  # fmt: skip

    @property
    def trains_embeddings(self) -> bool:
        """Random embeddings are trained unless told otherwise."""
        random = self.text == "scratch" or self.init == "random"
        return random if self.embeddings is None else self.embeddings == "trained"


class TextEncoder(nn.Module):
    """Texts to one vector each: a transformers model and its pooling.

    model: gives `last_hidden_state` [B, L, width]. Its pooler, if it has one, is kept for the saved folder's sake and
    is neither used nor trained.
    """

    def __init__(self, model: Any, pooling: str, train_embeddings: bool) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling
        self.width = int(model.config.hidden_size)
        if getattr(model, "pooler", None) is not None:
            model.pooler.requires_grad_(False)
        embedding_module(model).requires_grad_(train_embeddings)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask int64 [B, L] -> [B, width]."""
        if input_ids.device.type == "cpu":  # where asking for the longest text waits for nothing
            longest = int(attention_mask.sum(dim=1).max())
            input_ids, attention_mask = input_ids[:, :longest], attention_mask[:, :longest]
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pooled(hidden, attention_mask, self.pooling)

    def save(self, folder: Path) -> None:
        """Write it in transformers' layout, for AutoModel."""
        with quiet_transformers():
            self.model.save_pretrained(folder)


def pooled(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """hidden [B, L, D], attention_mask [B, L] with padding behind the text -> [B, D]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "eos":
        last = attention_mask.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def embedding_module(model: nn.Module) -> nn.Module:
    """The part with token and position tables: of a transformers text encoder it is called `embeddings`."""
    for module in (model, getattr(model, "text_model", None)):
        found = getattr(module, "embeddings", None)
        if isinstance(found, nn.Module):
            return found
    raise UserError(f"{type(model).__name__} has no module 'embeddings': name another text encoder")


def scratch_config(config: TextEncoderConfig, vocabulary: int, pad_token_id: int = 0) -> PretrainedConfig:
    """A plain pre-LN transformer (transformers' RoBERTa-PreLayerNorm) of the config's sizes."""
    if config.width % config.heads:
        raise UserError(f"student.width {config.width} is not a multiple of student.heads {config.heads}: change one")
    return RobertaPreLayerNormConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depth or 2,
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
    reference = config.text_weights
    if reference is None:
        raise UserError("student.text_weights is needed: the folder or id of a transformers text encoder")
    try:
        found = AutoConfig.from_pretrained(reference)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"student.text_weights {reference!r} is no transformers model that can be opened here ({first}): "
            "name a folder with config.json"
        ) from None
    if found.is_encoder_decoder or not hasattr(found, "num_hidden_layers"):
        raise UserError(f"student.text_weights {reference!r} ({found.model_type}) is not a plain text encoder")
    if config.depth is not None:
        if config.depth > found.num_hidden_layers:
            raise UserError(
                f"student.depth {config.depth} is more than the {found.num_hidden_layers} layers of {reference!r}: "
                "make it smaller"
            )
        found.num_hidden_layers = config.depth
    for name in _DROPOUT_KEYS:
        if hasattr(found, name):
            setattr(found, name, config.dropout)
    return found


def build_text_encoder(
    config: TextEncoderConfig, captions: Callable[[], Iterable[str]]
) -> tuple[TextEncoder, FixedLengthTokenizer]:
    """The encoder with its first weights, and its tokenizer. `captions` are read only where a tokenizer is trained."""
    if config.text == "scratch":
        given = config.tokenizer
        tokenizer = open_tokenizer(given) if given else train_tokenizer(captions(), config.vocabulary)
        made = scratch_config(config, len(tokenizer), tokenizer.pad_token_id)
        model = AutoModel.from_config(made)
    else:
        made = transformers_config(config)
        tokenizer = open_tokenizer(config.tokenizer or str(config.text_weights))
        random = config.init == "random"
        model = AutoModel.from_config(made) if random else _pretrained(str(config.text_weights), made)
    return TextEncoder(model, config.pooling, config.trains_embeddings), FixedLengthTokenizer(
        tokenizer, config.max_tokens
    )


def empty_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """The encoder on the meta device: sizes without weights. From scratch, the vocabulary counts in full."""
    made = scratch_config(config, config.vocabulary) if config.text == "scratch" else transformers_config(config)
    with torch.device("meta"):
        return TextEncoder(AutoModel.from_config(made), config.pooling, config.trains_embeddings)


def load_text_encoder(folder: Path, config: TextEncoderConfig) -> tuple[TextEncoder, FixedLengthTokenizer]:
    """What `save` of both wrote into `folder`."""
    with quiet_transformers():
        model = AutoModel.from_pretrained(folder)
    encoder = TextEncoder(model, config.pooling, config.trains_embeddings)
    return encoder, FixedLengthTokenizer(open_tokenizer(folder), config.max_tokens)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers on stderr; its warnings stay."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _pretrained(reference: str, config: PretrainedConfig) -> Any:
    try:
        with quiet_transformers():
            return AutoModel.from_pretrained(reference, config=config)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"student.text_weights {reference!r} has no weights that can be read: {first}") from None
