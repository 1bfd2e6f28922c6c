"""Accuracies of items that are each right or wrong, plain or macro, with bootstrap intervals. In percent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.metrics.bootstrap import bootstrap_group_means, percentile_interval


@dataclass(frozen=True)
class Accuracy:
    """The mean over groups of each group's share of right items; with one group the plain accuracy.

    right bool [n], n > 0. group int64 [n] in 0..g-1, none empty (None: one group). cluster int64 [n] in 0..c-1, none
    empty: items that are not independent (of one picture) and are resampled together (None: each by itself).
    """

    right: NDArray[np.bool_]
    group: NDArray[np.int64] | None = None
    cluster: NDArray[np.int64] | None = None

    def value(self) -> float:
        return self._mean(self.right.astype(np.float64))

    def interval(self, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """The percentile bootstrap's 95 % interval."""
        return self._interval(self.right.astype(np.float64), resamples, seed)

    def less(
        self, other: NDArray[np.bool_], *, resamples: int = 1000, seed: int = 0
    ) -> tuple[float, tuple[float, float]]:
        """This accuracy less that of the same items judged `other` [n], with the paired bootstrap's 95 % interval."""
        difference = self.right.astype(np.float64) - other
        return self._mean(difference), self._interval(difference, resamples, seed)

    def _mean(self, values: NDArray[np.float64]) -> float:
        group = self._groups()
        return float(100 * (np.bincount(group, values) / np.bincount(group)).mean())

    def _interval(self, values: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float]:
        """Of resampled means; a group that a resample does not draw is left out of that one's mean over groups."""
        cluster = np.arange(len(values)) if self.cluster is None else self.cluster
        means = bootstrap_group_means(values, self._groups(), cluster, resamples=resamples, seed=seed)
        return percentile_interval(100 * np.nanmean(means, axis=1))

    def _groups(self) -> NDArray[np.int64]:
        return np.zeros(len(self.right), np.int64) if self.group is None else self.group
