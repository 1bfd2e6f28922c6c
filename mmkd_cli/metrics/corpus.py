"""Scores of a whole corpus that are a formula of sums over its items, and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.metrics.bootstrap import percentile_interval, resampled_counts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CorpusScore:
    """value: of the corpus. items [n]: each item's own score.

    sums [n, k]: what is added up over the items; formula: from added sums [..., k] to the score [...].
    """

    value: float
    items: Floats
    sums: Floats
    formula: Callable[[Floats], Floats]

    def interval(self, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """The percentile bootstrap's 95 % interval over items."""
        samples = [self.formula(counts @ self.sums) for counts in resampled_counts(len(self.sums), resamples, seed)]
        return percentile_interval(np.concatenate(samples))


def mean_score(items: Floats) -> CorpusScore:
    """The mean of the items' scores [n]."""
    sums = np.stack([items, np.ones_like(items)], axis=1)
    return CorpusScore(float(items.mean()), items, sums, lambda added: added[..., 0] / added[..., 1])


# METEOR 1.5's parameters for English: exact words, stems, synonyms, paraphrases; content against function words.
_MATCH_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75


def meteor_sums(statistics: Floats) -> Floats:
    """METEOR's statistics of each item [n, 23] as they are added up: a perfect match has no chunk."""
    words, reference_words, chunks = statistics[:, 0], statistics[:, 1], statistics[:, 20]
    perfect = (statistics[:, 21] == words) & (statistics[:, 22] == reference_words) & (chunks == 1)
    sums = statistics.copy()
    sums[perfect, 20] = 0
    return sums


def meteor_formula(added: Floats) -> Floats:
    """METEOR 1.5 (Denkowski and Lavie 2014, section 2) of added statistics [..., 23] -> [...].

    Words and function words of candidate and reference (4); for each of four kinds of match the content words of both,
    then the function words of both (16); chunks; matched words of both.
    """
    matches = added[..., 4:20].reshape(*added.shape[:-1], 4, 4)

    def found(side: int) -> Floats:
        length, function = added[..., side], added[..., 2 + side]
        weighed = _DELTA * matches[..., side] + (1 - _DELTA) * matches[..., 2 + side]
        return _ratio(weighed @ _MATCH_WEIGHTS, _DELTA * (length - function) + (1 - _DELTA) * function)

    precision, recall = found(0), found(1)
    fmean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    fragments = _ratio(added[..., 20], (added[..., 21] + added[..., 22]) / 2)
    score: Floats = fmean * (1 - _GAMMA * fragments**_BETA)
    return score


def _ratio(part: Floats, whole: Floats) -> Floats:
    """0 where the whole is."""
    ratio: Floats = part / np.where(whole > 0, whole, 1) * (whole > 0)
    return ratio
