"""CIDEr-D against the official scorer, and its quirks by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from mmkd_cli.metrics.cider import CiderD
from mmkd_cli.metrics.ptb_tokenizer import tokenize


def official(references: Sequence[Sequence[str]], candidates: Sequence[str]) -> np.ndarray:
    given = {i: list(captions) for i, captions in enumerate(references)}
    return Cider().compute_score(given, {i: [caption] for i, caption in enumerate(candidates)})[1]


def small_world(seed: int, items: int) -> tuple[list[list[str]], list[str]]:
    """Few words, so that n-grams repeat within and across captions; some captions are empty or a word."""
    choose = random.Random(seed)

    def caption(words: str) -> str:
        return " ".join(choose.choice(words) for _ in range(choose.choice((0, 1, 2, 3, 5, 8, 13))))

    references = [[caption("abcde") for _ in range(choose.randint(1, 5))] for _ in range(items)]
    return references, [caption("abcdefg") for _ in range(items)]


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_official_scorer_on_small_vocabularies(seed: int) -> None:
    references, candidates = small_world(seed, items=5 + 9 * seed)
    said = CiderD(references).score(candidates)
    assert np.abs(said - official(references, candidates)).max() < 1e-9
    assert said.max() > 0


def test_equals_the_official_scorer_on_coco(real_data: Path) -> None:
    captions: dict[int, list[str]] = {}
    for row in json.loads((real_data / "coco_captions/captions_val2017.json").read_text("utf-8"))["annotations"]:
        captions.setdefault(row["image_id"], []).append(row["caption"])
    tokens = tokenize(dict(list(captions.items())[:1000]))
    references, candidates = [own[1:] for own in tokens.values()], [own[0] for own in tokens.values()]
    said = CiderD(references).score(candidates)
    assert np.abs(said - official(references, candidates)).max() < 1e-9
    assert 0.7 < said.mean() < 1.1


def test_any_items_in_any_order_and_repeated_as_a_reward_asks_for_them() -> None:
    references, candidates = small_world(3, items=20)
    indexed = CiderD(references)
    each = indexed.score(candidates)
    items = [7, 3, 3, 19, 7]
    assert indexed.score([candidates[item] for item in items], items).tolist() == each[items].tolist()
    assert indexed.score([], []).tolist() == []


def test_own_references_score_ten_where_all_lengths_are_there_and_words_that_all_have_count_nothing() -> None:
    references = [["a red dog runs here"], ["two cats sleep there now"], ["some birds fly very high"]]
    assert CiderD(references).score([own[0] for own in references]) == pytest.approx([10, 10, 10])
    everywhere = [["a dog"], ["a cat"]]
    assert CiderD(everywhere).score(["a", "a"]).tolist() == [0, 0]


def test_document_frequencies_are_those_of_the_items_given() -> None:
    references, candidates = small_world(5, items=30)
    whole = CiderD(references).score(candidates)[:10]
    part = CiderD(references[:10]).score(candidates[:10])
    assert np.abs(whole - part).max() > 0.01
    assert CiderD(references[:1]).score(references[0][:1]).tolist() == [0]  # log of one item


def test_a_long_caption_is_penalised() -> None:
    references = [["a red dog runs"], ["two cats sleep"]]
    short, long = CiderD(references).score(["a red dog runs", "two cats sleep" + " x" * 30])
    assert short > 5
    assert 0 < long < 0.1


@pytest.mark.parametrize("references", [[], [["a dog"], []]])
def test_an_item_without_a_reference_is_an_error(references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        CiderD(references)


def test_candidates_must_be_as_many_as_items() -> None:
    with pytest.raises(ValueError, match="1 candidates for 2 items"):
        CiderD([["a"], ["b"]]).score(["a"])
