"""Language models of random weights in transformers' layout: one of each kind, on tokens that are bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
ENDS = ("<s>", "<pad>", "</s>")
VOCABULARY = {"causal": 256, "masked": 260, "bart": 260, "t5": 260}
"""Kind -> tokens; a mask has the last id."""


def byte_tokenizer(folder: Path, *, ends: bool, mask: str | None = None) -> None:
    """A token a byte; with ends `<s>` 0, `<pad>` 1, `</s>` 2 around each text, and the mask's token last."""
    tokens = [*(ENDS if ends else ()), *BYTES, *([mask] if mask else ())]
    made = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"} if ends else {}
    if ends:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    if mask == "<mask>":
        special["mask_token"] = mask
    elif mask:
        special["additional_special_tokens"] = [mask]
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)


def tiny_language_model(folder: Path, kind: str = "causal", seed: int = 0) -> Path:
    """kind: causal, masked, bart, t5. Weights are large enough that distributions are far from even."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    size = VOCABULARY[kind]
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    if kind == "causal":
        config: Any = GPT2Config(
            vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=0
        )
        model: Any = GPT2LMHeadModel(config)
    elif kind == "masked":
        config = BertConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=40, pad_token_id=1,
        )  # fmt: skip
        model = BertForMaskedLM(config)
    elif kind == "bart":
        config = BartConfig(
            vocab_size=size, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=44,
            decoder_start_token_id=2, forced_eos_token_id=2, **ids,
        )  # fmt: skip
        model = BartForConditionalGeneration(config)
    else:
        config = T5Config(
            vocab_size=size, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=1,
            pad_token_id=1, eos_token_id=2,
        )  # fmt: skip
        model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    mask = {"causal": None, "t5": "<extra_id_0>"}.get(kind, "<mask>")
    byte_tokenizer(folder, ends=kind != "causal", mask=mask)
    return folder


def tiny_bert(folder: Path, seed: int = 0) -> Path:
    """A BERT with its pooler, as it is pre-trained; no dropout."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY["masked"], hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=40, pad_token_id=1, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertForPreTraining(config).save_pretrained(folder)
    byte_tokenizer(folder, ends=True, mask="<mask>")
    return folder
