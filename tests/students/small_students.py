"""Files that small students are built from: data2vec 2.0 checkpoints, a byte-level BPE, a BERT folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

from tests.architectures import official_d2v2

WIDTH, HEADS = 32, 2
BPE_TOKENS = 4 + 256
TEXTS = ["a dog runs", "two cats sleep on the bed", "the man rides", "a red ball"]


def bpe_folder(folder: Path) -> Path:
    """GPT-2's BPE without merges: every byte is a token (transformers' two files)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def d2v2_files(folder: Path, depth: int = 4) -> tuple[Path, Path, dict[str, Tensor], dict[str, Tensor]]:
    """image.pt and text.pt of random weights in fairseq's layout, with a tokenizer beside them, and both states."""
    bpe_folder(folder)
    image = official_d2v2.image_state(depth, WIDTH, grid=2, patch=16)
    text = official_d2v2.text_state(depth, WIDTH, vocabulary=BPE_TOKENS, positions=514, seed=1)
    for name, state in (("image.pt", image), ("text.pt", text)):
        torch.save({"cfg": {"model": {"num_heads": HEADS}}, "model": state}, folder / name)
    return folder / "image.pt", folder / "text.pt", image, text


def bert_folder(folder: Path, layers: int = 3) -> Path:
    """A BERT of random weights and its tokenizer, as transformers saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, max_position_embeddings=40,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def gradients_reach_exactly_the_trainable(model: torch.nn.Module) -> None:
    """After a backward pass: every trainable parameter has a gradient that is not zero, no other has one."""
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == parameter.requires_grad, name
