"""The tokenizer that is trained on captions, and texts of fixed length."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mmkd_cli.core.errors import UserError
from mmkd_cli.students.tokenizers import FixedLengthTokenizer, train_tokenizer

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
ANIMALS = ("dog", "dogs", "cat", "kitten", "horse", "puppy", "bird", "birds")
DEEDS = ("runs", "running", "sleeps", "sleeping", "jumps", "jumping", "plays", "playing")
CAPTIONS = [f"A {c} {a} {d} on the grass." for c, a, d in itertools.product(COLOURS, ANIMALS, DEEDS)]


def test_the_same_captions_give_the_same_tokenizer() -> None:
    made = {train_tokenizer(CAPTIONS, 120, 16).backend_tokenizer.to_str() for _ in range(6)}
    assert len(made) == 1


def test_texts_are_lower_cased_framed_cut_and_padded() -> None:
    tokenize = FixedLengthTokenizer(train_tokenizer(CAPTIONS, 400, 12), 12)
    tokenizer = tokenize.tokenizer
    said = tokenize(["A RED dog runs.", " ".join(CAPTIONS[:5]), ""])
    assert said["input_ids"].shape == said["attention_mask"].shape == (3, 12)
    ids = said["input_ids"][0][said["attention_mask"][0].bool()].tolist()
    assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
    assert tokenizer.decode(ids[1:-1]) == "a red dog runs ."
    assert said["input_ids"][0, len(ids) :].eq(tokenizer.pad_token_id).all()
    assert said["attention_mask"].sum(1).tolist() == [len(ids), 12, 2]
    assert said["input_ids"][1, -1] == tokenizer.sep_token_id  # the end stays when a text is cut
    assert tokenizer.unk_token_id in tokenize(["a dog \u2603"])["input_ids"]
    assert len(tokenizer) <= 400


def test_it_is_saved_in_transformers_layout_and_can_be_sent(tmp_path: Path) -> None:
    tokenize = FixedLengthTokenizer(train_tokenizer(CAPTIONS, 200, 12), 12)
    tokenize.save(tmp_path)
    expected = tokenize(CAPTIONS[:3])["input_ids"]
    for again in (
        FixedLengthTokenizer(AutoTokenizer.from_pretrained(tmp_path), 12),
        pickle.loads(pickle.dumps(tokenize)),
    ):
        assert again(CAPTIONS[:3])["input_ids"].equal(expected)


def test_a_tokenizer_without_padding_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(CAPTIONS, 200, 12).backend_tokenizer)
    with pytest.raises(UserError, match="no padding token"):
        FixedLengthTokenizer(tokenizer, 12)
