"""The caption tokenizer against Stanford's, which the official scorers run."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmkd_cli.metrics.ptb_tokenizer import tokenize, treebank_lines
from tests.metrics.java_tokenizer import HAVE_JAVA, java_lines, stored_cases

needs_java = pytest.mark.skipif(not HAVE_JAVA, reason="java is not there")

CHARACTERS = "abAS.,'\"`-/ 0159:;!?()$#&@_ ’“*+=<>%us "


def random_captions(seed: int, count: int) -> list[str]:
    """Half of words that are hard, run together or not, half of characters that are."""
    choose, words = random.Random(seed), " ".join(caption for caption, _ in stored_cases()).split(" ")
    gaps = (" ", " ", " ", "", ", ", ". ")
    made = []
    for _ in range(count):
        made.append("".join(choose.choice(words) + choose.choice(gaps) for _ in range(choose.randint(0, 9))))
        made.append("".join(choose.choice(CHARACTERS) for _ in range(choose.randint(1, 14))))
    return made


def test_hostile_captions_as_java_was_seen_to_tokenise_them() -> None:
    captions, lines = zip(*stored_cases(), strict=True)
    assert len(captions) > 60
    assert treebank_lines(captions) == list(lines)


@needs_java
def test_java_says_of_the_hostile_captions_what_is_stored() -> None:
    captions, lines = zip(*stored_cases(), strict=True)
    assert java_lines(list(captions)) == list(lines)


@needs_java
def test_random_captions_as_java() -> None:
    captions = random_captions(seed=5, count=1500)
    assert treebank_lines(captions) == java_lines(captions)


@needs_java
def test_characters_of_the_basic_plane_as_java() -> None:
    codes = [
        code for code in range(0x20, 0x10000) if not 0xD800 <= code < 0xE000 and code not in (0x85, 0x2028, 0x2029)
    ]
    chosen = codes[:1500] + random.Random(3).sample(codes[1500:], 1500)
    captions = [form.replace("*", chr(code)) for code in chosen for form in ("ab*cd x", "ab * cd", "4*5", "** y", "d*")]
    assert treebank_lines(captions) == java_lines(captions)


def real_captions(folder: Path) -> Mapping[str, list[str]]:
    """All references of COCO val2017 and of Flickr8k, by picture."""
    captions: dict[str, list[str]] = {}
    for row in json.loads((folder / "coco_captions/captions_val2017.json").read_text("utf-8"))["annotations"]:
        captions.setdefault(f"coco {row['image_id']}", []).append(row["caption"])
    for image in json.loads((folder / "flickr8k/dataset_flickr8k.json").read_text("utf-8"))["images"]:
        captions[image["filename"]] = [sentence["raw"] for sentence in image["sentences"]]
    return captions


@needs_java
def test_all_references_of_coco_and_flickr8k_as_the_official_scorer(real_data: Path) -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = real_captions(real_data)
    assert sum(map(len, captions.values())) == 25_014 + 40_450
    official = PTBTokenizer().tokenize(
        {key: [{"caption": caption} for caption in several] for key, several in captions.items()}
    )
    assert tokenize(captions) == official


def test_punctuation_is_left_out_and_brackets_stay_as_the_official_scorer_leaves_them() -> None:
    said = tokenize({1: ['A dog, (brown); "it\'s" -- ... fine!?', "..."], 2: [""], 3: []})
    assert said == {1: ["a dog -lrb- brown -rrb- it 's fine !?", ""], 2: [""], 3: []}


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_a_line_break_in_a_caption_is_a_space_and_shifts_no_other(line_break: str) -> None:
    assert tokenize({1: [f"a dog{line_break}runs"], 2: ["a cat"]}) == {1: ["a dog runs"], 2: ["a cat"]}


def test_an_abbreviation_ends_its_sentence_where_the_next_caption_begins_with_a_capital() -> None:
    assert treebank_lines(["dogs, cats etc.", "A cat"])[0] == "dogs , cats etc. ."
    assert treebank_lines(["dogs, cats etc.", "a cat"])[0] == "dogs , cats etc."
