"""Plain, macro and paired accuracies against loops over explicit resamples."""

from __future__ import annotations

import numpy as np
import pytest

from mmkd_cli.metrics.accuracy import Accuracy
from mmkd_cli.metrics.bootstrap import bootstrap_group_means, resampled_counts

GROUP = np.array([0, 1, 1, 2, 2, 2, 0, 1])
CLUSTER = np.array([0, 0, 1, 2, 3, 3, 4, 1])
RIGHT = np.array([1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)


def test_values_are_means_and_means_of_means() -> None:
    assert Accuracy(RIGHT).value() == 62.5
    assert Accuracy(RIGHT, GROUP).value() == pytest.approx(100 * (1 + 2 / 3 + 1 / 3) / 3)


def test_samples_are_those_of_the_drawn_clusters() -> None:
    means = bootstrap_group_means(RIGHT.astype(float), GROUP, CLUSTER, resamples=130, seed=5)
    empty = 0
    for sample, drawn in enumerate(np.concatenate(list(resampled_counts(5, 130, 5)))):
        items = [item for item in range(8) for _ in range(drawn[CLUSTER[item]])]
        for group in range(3):
            own = [RIGHT[item] for item in items if GROUP[item] == group]
            empty += not own
            assert means[sample, group] == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)
    assert empty  # a resample without a group occurs, and is left out of that mean
    low, high = Accuracy(RIGHT, GROUP, CLUSTER).interval(resamples=130, seed=5)
    assert (low, high) == pytest.approx(np.quantile(100 * np.nanmean(means, axis=1), [0.025, 0.975]))


def test_a_difference_is_paired() -> None:
    other = np.array([0, 0, 1, 0, 1, 1, 1, 1], dtype=bool)
    value, (low, high) = Accuracy(RIGHT, GROUP).less(other, resamples=300)
    assert value == pytest.approx(Accuracy(RIGHT, GROUP).value() - Accuracy(other, GROUP).value())
    assert low < value < high
    assert Accuracy(RIGHT).less(RIGHT) == (0.0, (0.0, 0.0))  # nothing changed: no spread, whatever the accuracy's
