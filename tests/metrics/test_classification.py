"""Accuracies against scalar loops, with ties."""

from __future__ import annotations

import pytest
import torch

from mmkd_cli.metrics.classification import classification_scores


def test_scores_equal_scalar_loops_with_ties() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randint(0, 6, (200, 7)).float(), torch.randint(0, 6, (200,))  # class 6 never occurs
    ranks = [
        1 + sum(logits[i, c] >= logits[i, label] for c in range(7) if c != label).item()
        for i, label in enumerate(labels.tolist())
    ]
    per_class = [[rank == 1 for rank, own in zip(ranks, labels.tolist(), strict=True) if own == c] for c in range(6)]
    assert classification_scores(logits, labels) == {
        "acc1": pytest.approx(100 * sum(rank == 1 for rank in ranks) / 200),
        "acc5": pytest.approx(100 * sum(rank <= 5 for rank in ranks) / 200),
        "mean_per_class_recall": pytest.approx(100 * sum(sum(hits) / len(hits) for hits in per_class) / 6),
    }


def test_equal_logits_and_nan_are_wrong_and_few_classes_have_no_acc5() -> None:
    labels = torch.tensor([0, 1, 2])
    for value in (1.0, torch.nan):
        assert classification_scores(torch.full((3, 4), value), labels) == {"acc1": 0.0, "mean_per_class_recall": 0.0}
