"""Bootstrap samples against explicit resampling, and intervals against known spreads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkd_cli.metrics.bootstrap import bootstrap_means, bootstrap_medians, percentile_interval, resampled_counts
from mmkd_cli.metrics.retrieval import RetrievalRanks
from mmkd_cli.metrics.retrieval_scores import retrieval_intervals, retrieval_scores


def test_samples_are_the_means_and_medians_of_the_drawn_clusters() -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(9), [3, 1, 4, 1, 5, 2, 2, 1, 3])
    rng.shuffle(clusters)
    ranks = rng.integers(1, 30, len(clusters))
    values = np.stack([ranks <= 5, ranks <= 10], axis=1).astype(np.float64)
    means = bootstrap_means(values, clusters, resamples=150, seed=4)
    medians = bootstrap_medians(ranks, clusters, resamples=150, seed=4)
    counts = np.concatenate(list(resampled_counts(9, 150, 4)))
    assert counts.shape == (150, 9) and (counts.sum(axis=1) == 9).all()
    for sample, drawn in enumerate(counts):
        items = [item for item, cluster in enumerate(clusters) for _ in range(drawn[cluster])]
        assert means[sample] == pytest.approx(values[items].mean(axis=0))
        assert medians[sample] == np.median(ranks[items])


def test_interval_has_the_width_of_the_normal_approximation() -> None:
    values = (np.arange(1000) % 10 < 3).astype(np.float64)[:, None]
    low, high = percentile_interval(bootstrap_means(values, np.arange(1000), resamples=4000)[:, 0])
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.004) and high == pytest.approx(0.3 + half, abs=0.004)


def test_clusters_of_equal_items_widen_the_interval_as_fewer_items_do() -> None:
    values = np.repeat(np.arange(200) % 2, 5).astype(np.float64)[:, None]
    spread = bootstrap_means(values, np.repeat(np.arange(200), 5), resamples=2000).std()
    alone = bootstrap_means(values, np.arange(1000), resamples=2000).std()
    assert spread / alone == pytest.approx(np.sqrt(5), rel=0.1)


def test_seed_decides_the_samples() -> None:
    values, clusters = np.random.default_rng(0).random((50, 1)), np.arange(50)
    first = bootstrap_means(values, clusters, resamples=70, seed=1)
    assert np.array_equal(first, bootstrap_means(values, clusters, resamples=70, seed=1))
    assert not np.array_equal(first, bootstrap_means(values, clusters, resamples=70, seed=2))


def test_retrieval_intervals_hold_the_scores_and_skip_what_is_no_query() -> None:
    torch.manual_seed(0)
    text_image = torch.arange(400) // 4
    text_image[text_image == 7] = -1  # picture 7 loses its captions, four texts lose their picture
    image_ranks, text_ranks = torch.randint(1, 15, (100,)), torch.randint(1, 15, (400,))
    image_ranks[7], text_ranks[text_image < 0] = 0, 0
    ranks = RetrievalRanks(image_ranks, text_ranks)
    scores, intervals = retrieval_scores(ranks), retrieval_intervals(ranks, text_image, resamples=500, seed=3)
    assert scores.keys() == intervals.keys()
    for name, (low, high) in intervals.items():
        assert low <= scores[name] <= high and low < high
    assert intervals == retrieval_intervals(ranks, text_image, resamples=500, seed=3)
    image = intervals["image_to_text_recall@5"]
    half = 196 * np.sqrt(0.36 * 0.64 / 99)
    assert (image[1] - image[0]) / 2 == pytest.approx(half, rel=0.25)
