"""Percentile bootstrap over clusters of items (Efron and Tibshirani, An Introduction to the Bootstrap, 13.3).

Items that are not independent (the captions of one picture) share a cluster, and clusters are drawn with replacement.
The same seed and number of clusters draw the same clusters, so samples of several statistics can be combined; the
paired interval of a difference between two models is that of the mean of their per-item differences.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Resamples drawn at once: bounds memory to this many rows of counts.
CHUNK = 64


def bootstrap_means(
    values: NDArray[np.float64], clusters: NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Resampled means of each column. values [items, k], clusters [items] in 0..c-1, none empty -> [resamples, k]."""
    n_clusters = int(clusters.max()) + 1
    sums = np.stack([np.bincount(clusters, column, n_clusters) for column in values.T], axis=1)
    sizes = np.bincount(clusters, minlength=n_clusters)
    return np.concatenate(
        [counts @ sums / (counts @ sizes)[:, None] for counts in resampled_counts(n_clusters, resamples, seed)]
    )


def bootstrap_group_means(
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    clusters: NDArray[np.int64],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Resampled means of each group, the clusters of all groups drawn together -> [resamples, g].

    values [items], groups [items] in 0..g-1, clusters [items] in 0..c-1, none empty. NaN where a resample holds no
    item of a group.
    """
    n_groups, n_clusters = int(groups.max()) + 1, int(clusters.max()) + 1
    means = []
    for counts in resampled_counts(n_clusters, resamples, seed):
        for drawn in counts:
            weights = drawn[clusters].astype(np.float64)
            with np.errstate(invalid="ignore"):
                means.append(np.bincount(groups, weights * values, n_groups) / np.bincount(groups, weights, n_groups))
    return np.stack(means)


def bootstrap_medians(
    values: NDArray[np.int64], clusters: NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Resampled medians (mean of the two middle). values [items], clusters [items] in 0..c-1 -> [resamples]."""
    order = np.argsort(values, kind="stable")
    ordered, medians = values[order], []
    for counts in resampled_counts(int(clusters.max()) + 1, resamples, seed):
        filled = counts[:, clusters[order]].cumsum(axis=1)  # [chunk, items]: places taken up to each item
        total = filled[:, -1]
        lower = (filled <= ((total - 1) // 2)[:, None]).sum(axis=1)
        upper = (filled <= (total // 2)[:, None]).sum(axis=1)
        medians.append((ordered[lower] + ordered[upper]) / 2)
    return np.concatenate(medians)


def percentile_interval(samples: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The central interval that holds the given share of samples [resamples]."""
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def resampled_counts(n_clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each cluster is drawn, in chunks [<= CHUNK, n_clusters] whose rows sum to n_clusters."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = generator.integers(0, n_clusters, (rows, n_clusters)) + n_clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n_clusters).reshape(rows, n_clusters)
