"""data2vec 2.0's text blocks as transformers' own model and tokenizer, for everything that opens such folders.

Both are RoBERTa's architecture: learned positions from 2 on, post-norm blocks, a begin-of-sentence token in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing
from torch import Tensor, nn
from transformers import Data2VecTextConfig, Data2VecTextModel, PreTrainedTokenizerFast

from mmkd_cli.architectures.d2v2 import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    TEXT_EPS,
    UNK_ID,
    Attention,
    Block,
    Sizes,
    TextEmbedding,
)
from mmkd_cli.architectures.gpt2_bpe import SPECIAL_TOKENS, read_bpe


def as_transformers(
    embed: TextEmbedding, blocks: Sequence[tuple[Block, Attention]], sizes: Sizes, dropout: float
) -> Data2VecTextModel:
    """The same function of input_ids and attention_mask, without a pooler. blocks: each with the attention it uses."""
    config = Data2VecTextConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.width, num_hidden_layers=len(blocks),
        num_attention_heads=sizes.heads, intermediate_size=sizes.mlp_width, type_vocab_size=1,
        max_position_embeddings=embed.positions.num_embeddings, layer_norm_eps=TEXT_EPS, pad_token_id=PAD_ID,
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    model = Data2VecTextModel(config, add_pooling_layer=False)
    state = {
        "embeddings.word_embeddings.weight": embed.tokens.weight,
        "embeddings.position_embeddings.weight": embed.positions.weight,
        "embeddings.token_type_embeddings.weight": torch.zeros(1, sizes.width),  # there is none
        **_named("embeddings.LayerNorm", embed.norm),
    }
    for number, (block, attention) in enumerate(blocks):
        state |= {f"encoder.layer.{number}.{name}": value for name, value in _block(block, attention).items()}
    model.load_state_dict(state)
    return model


def transformers_tokenizer(folder: Path, max_tokens: int) -> PreTrainedTokenizerFast:
    """GPT-2's BPE with the ids of `Gpt2Bpe`; `<s> a </s>`, of pairs `<s> a </s></s> b </s>`, as fairseq fine-tunes."""
    _, encoder, merges, ids = read_bpe(folder)
    known = {token: int(ids[number]) for token, number in encoder.items() if ids[number] != UNK_ID}
    vocabulary = {**known, **{token: place for place, token in enumerate(SPECIAL_TOKENS)}}
    kept = [(a, b) for a, b in merges if {a, b, a + b} <= vocabulary.keys()]  # a merge of a token without id is none
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=kept, unk_token=SPECIAL_TOKENS[UNK_ID]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bos, pad, eos, unk = SPECIAL_TOKENS
    tokenizer.post_processor = RobertaProcessing((eos, EOS_ID), (bos, BOS_ID), trim_offsets=False,
                                                 add_prefix_space=False)  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, bos_token=bos, eos_token=eos, sep_token=eos,
        cls_token=bos, unk_token=unk, pad_token=pad,
    )  # fmt: skip


def _block(block: Block, attention: Attention) -> dict[str, Tensor]:
    """A block's weights by transformers' names; query, key and value apart."""
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    state: dict[str, Tensor] = {}
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        state |= {f"attention.self.{name}.weight": weight, f"attention.self.{name}.bias": bias}
    return {
        **state,
        **_named("attention.output.dense", attention.proj),
        **_named("attention.output.LayerNorm", block.norm1),
        **_named("intermediate.dense", block.mlp.fc1),
        **_named("output.dense", block.mlp.fc2),
        **_named("output.LayerNorm", block.norm2),
    }


def _named(name: str, module: nn.Linear | nn.LayerNorm) -> dict[str, Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
