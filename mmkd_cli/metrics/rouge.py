"""ROUGE-1, -2, -L and -Lsum (Lin 2004) as PyPI's rouge-score counts them: the F1 of one prediction and its reference.

Tokens are runs of a-z and 0-9 in lower case, stemmed (metrics/porter.py) where longer than three. ROUGE-L is over the
whole text, ROUGE-Lsum over its lines (sentences), as papers on CNN/DailyMail report it. The Perl script ROUGE-1.5.5
differs from this by tenths.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mmkd_cli.metrics.porter import stem

NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge(prediction: str, reference: str, *, stemmed: bool = True) -> dict[str, float]:
    """0 to 1 by name. Lines of the texts are their sentences."""
    said, true = tokens(prediction, stemmed), tokens(reference, stemmed)
    common = _common_length(said, true)
    return {
        "rouge1": _n_grams(said, true, 1),
        "rouge2": _n_grams(said, true, 2),
        "rougeL": _f1(common, len(said), len(true)),
        "rougeLsum": _by_sentence(_sentences(prediction, stemmed), _sentences(reference, stemmed)),
    }


def tokens(text: str, stemmed: bool = True) -> list[str]:
    words = re.findall("[a-z0-9]+", text.lower())
    return [stem(word) if len(word) > 3 else word for word in words] if stemmed else words


def _sentences(text: str, stemmed: bool) -> list[list[str]]:
    return [tokens(line, stemmed) for line in text.split("\n") if line]


def _n_grams(said: Sequence[str], true: Sequence[str], n: int) -> float:
    grams, true_grams = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in (said, true))
    return _f1((grams & true_grams).total(), grams.total(), true_grams.total())


def _by_sentence(said: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> float:
    """The words of each reference sentence that its longest common subsequences with any sentence said cover."""
    left_said = Counter(word for sentence in said for word in sentence)
    left_true = Counter(word for sentence in true for word in sentence)
    hits = 0
    for sentence in true:
        for place in sorted(set().union(*(_common_places(sentence, other) for other in said))):
            word = sentence[place]
            if left_said[word] > 0 and left_true[word] > 0:  # a word said once is found once
                left_said[word] -= 1
                left_true[word] -= 1
                hits += 1
    return _f1(hits, sum(map(len, said)), sum(map(len, true)))


def _f1(hits: int, said: int, true: int) -> float:
    if not hits:
        return 0.0
    precision, recall = hits / said, hits / true
    return 2 * precision * recall / (precision + recall)


def _common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Of the longest common subsequence, a row of the table at a time as the bits of a number (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        both = row & places.get(word, 0)
        row = ((row + both) | (row - both)) & every
    return len(one) - row.bit_count()


def _common_places(one: Sequence[str], other: Sequence[str]) -> set[int]:
    """Places in `one` of a longest common subsequence: of several, that which ends first in `one`, as rouge-score."""
    table = [[0] * (len(other) + 1)]
    for word in one:
        above, row = table[-1], [0]
        for place, another in enumerate(other):
            row.append(above[place] + 1 if word == another else max(above[place + 1], row[place]))
        table.append(row)
    places, i, j = set(), len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            places.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places
