"""VQA v2's accuracy of open answers, as its official script counts (GT-Vision-Lab/VQA, vqaEval.py).

An answer that k of the ten people gave scores 0, 0.3, 0.6, 0.9 and from k = 4 on 1: the mean over the ten sets of nine
of min(1, right / 3). Both sides are normalised first, unless all people agree; the script's quirks are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

_PUNCTUATION = r""";/[]"{}()=+\_-><@`,?!"""
_NUMBERS = {"none": "0", **{word: str(n) for n, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))}}  # fmt: skip
_ARTICLES = ("a", "an", "the")
_CONTRACTIONS: dict[str, str] = json.loads(Path(__file__).with_name("vqa_contractions.json").read_text("utf-8"))
# The script means a full stop beside no digit, but only what follows counts; and it takes 32 of them, no more.
_FULL_STOP, _MOST_FULL_STOPS = re.compile(r"\.(?!\d)"), 32


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """One question's accuracy, 0 to 1. answers: those of all people, ten in the official files."""
    prediction, people = _one_line(prediction), [_one_line(answer) for answer in answers]
    if len(set(people)) > 1:
        prediction, people = normalized(prediction), [normalized(answer) for answer in people]
    right = [answer == prediction for answer in people]
    without_one = [min(1.0, (sum(right) - own) / 3) for own in right]
    return sum(without_one) / len(without_one)


def official_percent(accuracies: Sequence[float]) -> float:
    """The mean as the script prints it: two decimals."""
    return round(100 * sum(accuracies) / len(accuracies), 2)


def exact_match(prediction: str, answer: str) -> bool:
    """Whether the two are the same text, white space at the ends aside; nothing is normalised."""
    return prediction.strip() == answer.strip()


@lru_cache(maxsize=65536)
def normalized(answer: str) -> str:
    """An answer of one line without punctuation, articles and number words, with apostrophes put back."""
    words = (_NUMBERS.get(word, word) for word in _without_punctuation(answer).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(answer: str) -> str:
    """A mark beside a space goes, and every mark does where a comma stands between digits; others leave a space."""
    text, number = answer, re.search(r"\d,\d", answer)
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside_space or number else " ")
    return _FULL_STOP.sub("", text, _MOST_FULL_STOPS)
