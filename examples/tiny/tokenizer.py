"""A byte-level BPE in CLIP's layout, small: every word of the built-in world is one token, any other text is spelt."""

from __future__ import annotations

import json

from tokenizers import trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from mmkd_cli import scenes

MAX_TOKENS = 40
CAPTIONED = 3000
"""Scenes whose captions hold every word."""


def caption_tokenizer() -> CLIPTokenizer:
    """Trained on captions until nothing is left to merge; ids in CLIP's order, the end of a text has the highest."""
    untrained = CLIPTokenizer()
    bpe = untrained.backend_tokenizer
    captions = [text for i in range(CAPTIONED) for text in scenes.captions(scenes.scene(0, i, "train"))]
    trainer = trainers.BpeTrainer(vocab_size=10_000, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
