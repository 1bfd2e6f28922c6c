"""BLEU of a corpus (Papineni et al. 2002) with the closest reference's length, by pycocoevalcap's scorer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from mmkd_cli.metrics.corpus import CorpusScore, Floats

Key = TypeVar("Key", bound=Hashable)


def bleu_scores(
    references: Mapping[Key, Sequence[str]], candidates: Mapping[Key, Sequence[str]]
) -> dict[str, CorpusScore]:
    """`Bleu_1` to `Bleu_4`, 0 to 1. references, candidates: of each item its texts and the one candidate, tokenised."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for item, texts in references.items():
        scorer += (candidates[item][0], list(texts))
    values, items = scorer.compute_score(option="closest")
    sums = np.array(
        [
            [cooked["testlen"], _closest(cooked["reflen"], cooked["testlen"]), *cooked["guess"], *cooked["correct"]]
            for cooked in scorer.ctest
        ],
        dtype=np.float64,
    )
    scores = {}
    for n in range(1, 5):
        columns = [0, 1, *range(2, 2 + n), *range(6, 6 + n)]
        scores[f"Bleu_{n}"] = CorpusScore(values[n - 1], np.array(items[n - 1]), sums[:, columns], bleu_formula(n))
    return scores


def _closest(lengths: Sequence[int], length: int) -> int:
    """The reference length nearest to the candidate's, of two the shorter one."""
    return min(lengths, key=lambda one: (abs(one - length), one))


def bleu_formula(order: int) -> Callable[[Floats], Floats]:
    """BLEU of n-grams up to `order`, with that scorer's guards against zeros.

    Of sums [..., 2 + 2 * order]: candidates' words, words of the closest references, then for n = 1 .. order the
    n-grams of the candidates and how many of them are right.
    """

    def formula(added: Floats) -> Floats:
        words, closest = added[..., 0], added[..., 1]
        guessed, right = added[..., 2 : 2 + order], added[..., 2 + order : 2 + 2 * order]
        precision = np.prod((right + 1e-15) / (guessed + 1e-9), axis=-1) ** (1 / order)
        ratio = (words + 1e-15) / (closest + 1e-9)
        brief: Floats = precision * np.exp(np.minimum(0, 1 - 1 / ratio))
        return brief

    return formula
