"""ARO's shuffles against a plain reading of the published rules with numpy's and Python's global generators."""

from __future__ import annotations

import builtins
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mmkd_cli.benches.aro_orders import Absent, Orders, Tools, cleaned, open_tools

TAGS = {"dogs": "NNS", "ball": "NN", "cat": "NN", "Paris": "NNP", "red": "JJ", "small": "JJ", "bigger": "JJR",
        "chase": "VBP", "a": "DT", "the": "DT", "in": "IN", ".": "."}  # fmt: skip
CAPTIONS = [
    "small dogs chase a red ball in Paris .",
    "the red cat chase the bigger dogs",
    "a cat",
    "in the",
]
TOOLS = Tools(lambda text: [(word, TAGS[word]) for word in text.split()], str.split)


def expected(captions: Sequence[str]) -> list[list[str]]:
    """The rules by global generators, seeded once before the first caption."""
    np.random.seed(1)
    random.seed(1)
    found = []
    for caption in captions:
        words = np.array(caption.split())
        nouns = [i for i, word in enumerate(words) if TAGS[word].startswith("NN")]
        adjectives = [i for i, word in enumerate(words) if TAGS[word].startswith("JJ")]
        first = words.copy()
        if nouns:
            first[nouns] = np.random.permutation(first[nouns])
        if adjectives:
            first[adjectives] = np.random.permutation(first[adjectives])
        rest = [i for i in range(len(words)) if i not in nouns + adjectives]
        second = words.copy()
        if rest:
            second[rest] = np.random.permutation(second[rest])
        third = []
        for start in range(0, len(words), 3):
            trigram = caption.split()[start : start + 3]
            random.shuffle(trigram)
            third += trigram
        blocks = [caption.split()[start : start + 3] for start in range(0, len(words), 3)]
        random.shuffle(blocks)
        fourth = " ".join(" ".join(block) for block in blocks)
        orders = [caption, " ".join(first), " ".join(second), " ".join(third), fourth]
        found.append([re.sub(" +", " ", text.lower().replace(".", " ")).strip() for text in orders])
    return found


def test_shuffles_follow_the_published_rules() -> None:
    orders = Orders(TOOLS)
    found = [orders.candidates(caption) for caption in CAPTIONS]
    assert found == expected(CAPTIONS)
    for caption, candidates in zip(CAPTIONS, found, strict=True):
        words = sorted(cleaned(caption).split())
        assert all(sorted(text.split()) == words for text in candidates)
    # Nouns change places with nouns only, adjectives with adjectives; the second keeps both where they are.
    kinds = [TAGS.get(word, "NNP")[:2] for word in found[0][1].split()]
    assert kinds == [TAGS.get(word, "NNP")[:2] for word in found[0][0].split()]
    assert [w for w in found[0][2].split() if TAGS.get(w, "NNP")[:2] in ("NN", "JJ")] == [
        w for w in found[0][0].split() if TAGS.get(w, "NNP")[:2] in ("NN", "JJ")
    ]
    assert found[2] == ["a cat", "a cat", "a cat", found[2][3], "a cat"]  # what changes nothing is the caption itself


def test_cleaning() -> None:
    assert cleaned('A (big) dog: runs!  "Far"; #1 ~ 50*\n') == "a big dog runs far 1 50"
    assert cleaned("it 's, fine") == "it 's, fine"  # commas and apostrophes stay: nltk's spaces show in negatives only
    assert len(cleaned("word " * 40).split()) == 30


def test_what_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_spacy(name: str, *more: Any) -> Any:
        if name in ("spacy", "nltk"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    with pytest.raises(Absent, match="nltk is not installed: pip install nltk"):
        open_tools()
