"""Byte-level BPEs, small: words that are common in what they were trained on are one token, any other text is spelt."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from mmkd_cli import scenes

MAX_TOKENS = 40
CAPTIONED = 3000
"""Scenes whose captions hold every word."""


def caption_tokenizer() -> CLIPTokenizer:
    """CLIP's layout, trained on captions until nothing is left to merge: every word of the built-in world is a token.

    Ids are in CLIP's order, the end of a text has the highest.
    """
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


def writing_tokenizer(texts: Iterable[str], *, ends: bool, most: int = 6000) -> PreTrainedTokenizerFast:
    """BART's layout: <s> 0, <pad> 1, </s> 2, <unk> 3, <mask> last, which takes the space before it.

    ends: texts become <s> ... </s>; without, they stay bare, as GPT-2 has them. most: largest vocabulary; it is smaller
    where nothing is left to merge.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = sorted(ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=most - 1, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    if ends:
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, mask_token=mask, **names)
