"""A BART of random weights in transformers' layout, whose tokens are bytes; and a small GPT-2 of the same tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*SPECIAL, *BYTES, "<mask>"]
MASK = len(TOKENS) - 1
WIDTH = 16


def byte_tokenizer(folder: Path) -> None:
    """<s> text </s>, ids 0 to 3 and the mask last as in facebook/bart-*."""
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(TOKENS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(folder)  # fmt: skip


def tiny_bart(folder: Path, seed: int = 0, dropout: float = 0.1) -> Path:
    """No norm is the identity and no bias 0, so that a wrong wiring changes the numbers."""
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=len(TOKENS), d_model=WIDTH, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=96, dropout=dropout,
        init_std=0.2,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    _shake(model)
    model.save_pretrained(folder)
    byte_tokenizer(folder)
    return folder


def tiny_gpt2(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(TOKENS), n_positions=96, n_embd=WIDTH, n_layer=2, n_head=2, initializer_range=0.2,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    _shake(model)
    model.save_pretrained(folder)
    byte_tokenizer(folder)
    return folder


@torch.no_grad()
def _shake(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
