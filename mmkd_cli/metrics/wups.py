"""WUPS: answers that are nearly right by their place in WordNet (Malinowski and Fritz 2014, arXiv 1410.0210, Eq. 6).

An answer may be several, parted by commas. Two words' Wu-Palmer similarity is scaled down by ten where it is below a
threshold; a set of answers scores the smaller of both directions' products of best matches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod

_SCALED_DOWN = 0.1

Similarity = Callable[[str, str], float]
"""Of two words, 0 to 1."""


def answer_set(text: str) -> frozenset[str]:
    return frozenset(part for part in (one.strip() for one in text.split(",")) if part)


def wups(said: str, true: str, threshold: float, similarity: Similarity) -> float:
    """0 to 1."""
    words, right = answer_set(said), answer_set(true)
    if not words or not right:
        return 0.0

    def near(a: str, b: str) -> float:
        value = 1.0 if a == b else similarity(a, b)
        return value if value >= threshold else _SCALED_DOWN * value

    return min(prod(max(near(a, b) for b in right) for a in words), prod(max(near(a, b) for a in words) for b in right))


def wordnet_similarity() -> Similarity | None:
    """The best of all nouns' senses of two words; None where nltk or its WordNet is not here."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError):
        return None

    @cache
    def senses(word: str) -> tuple[object, ...]:
        return tuple(wordnet.synsets(word, pos=wordnet.NOUN))

    @cache
    def similarity(a: str, b: str) -> float:
        pairs = [(x, y) for x in senses(a) for y in senses(b)]
        return max((float(x.wup_similarity(y) or 0.0) for x, y in pairs), default=0.0)  # type: ignore[attr-defined]

    return similarity
