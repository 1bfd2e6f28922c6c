"""GLUE's metrics against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mmkd_cli.metrics.glue import TASKS, glue_scores


def test_labels_as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 300)
    said = np.where(rng.random(300) < 0.3, 1 - true, true)
    assert glue_scores("mrpc", said, true) == {
        "accuracy": pytest.approx(100 * metrics.accuracy_score(true, said)),
        "f1": pytest.approx(100 * metrics.f1_score(true, said)),
    }
    assert glue_scores("cola", said, true) == {"matthews": pytest.approx(100 * metrics.matthews_corrcoef(true, said))}
    three = rng.integers(0, 3, (2, 90))
    assert glue_scores("mnli", *three) == {"accuracy": pytest.approx(100 * metrics.accuracy_score(*three))}


def test_similarities_as_scipy_ties_too() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 26, 200) / 5
    said = np.round(true + rng.normal(0, 1, 200), 1)
    assert glue_scores("stsb", said, true) == {
        "pearson": pytest.approx(100 * stats.pearsonr(said, true).statistic),
        "spearman": pytest.approx(100 * stats.spearmanr(said, true).statistic),
    }


def test_a_constant_answer_scores_nothing() -> None:
    true = [0, 1, 1, 0]
    assert glue_scores("cola", [1, 1, 1, 1], true) == {"matthews": 0}
    assert glue_scores("stsb", [2.5] * 4, true) == {"pearson": 0, "spearman": 0}
    assert glue_scores("qqp", [0, 0, 0, 0], [0, 0, 0, 0]) == {"accuracy": 100, "f1": 0}


def test_the_nine_tasks_and_lengths_that_differ() -> None:
    assert set(TASKS) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"}
    with pytest.raises(ValueError, match="1 predictions for 2 labels"):
        glue_scores("sst2", [1], [1, 0])
    with pytest.raises(ValueError, match="0 predictions"):
        glue_scores("sst2", [], [])
