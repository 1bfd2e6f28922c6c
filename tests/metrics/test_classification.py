"""Accuracies against scalar loops, with ties, and against CLIP_benchmark's where no tie occurs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkd_cli.metrics.classification import classification_accuracies, label_ranks


def scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    ranks = label_ranks(logits, labels).numpy()
    found = classification_accuracies(ranks, labels.numpy(), logits.shape[1])
    return {name: accuracy.value() for name, accuracy in found.items()}


def test_scores_equal_scalar_loops_with_ties() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randint(0, 6, (200, 7)).float(), torch.randint(0, 6, (200,))  # class 6 never occurs
    ranks = [
        1 + sum(logits[i, c] >= logits[i, label] for c in range(7) if c != label).item()
        for i, label in enumerate(labels.tolist())
    ]
    per_class = [[rank == 1 for rank, own in zip(ranks, labels.tolist(), strict=True) if own == c] for c in range(6)]
    assert scores(logits, labels) == {
        "acc1": pytest.approx(100 * sum(rank == 1 for rank in ranks) / 200),
        "acc5": pytest.approx(100 * sum(rank <= 5 for rank in ranks) / 200),
        "mean_per_class_recall": pytest.approx(100 * sum(sum(hits) / len(hits) for hits in per_class) / 6),
    }


def test_equal_logits_and_nan_are_wrong_and_few_classes_have_no_acc5() -> None:
    labels = torch.tensor([0, 1, 2])
    for value in (1.0, torch.nan):
        assert scores(torch.full((3, 4), value), labels) == {"acc1": 0.0, "mean_per_class_recall": 0.0}


def test_equal_to_clip_benchmark_without_ties() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn, which CLIP_benchmark asks, is absent")
    torch.manual_seed(1)
    labels = torch.randint(0, 12, (500,)).clamp(min=1)  # class 0 never occurs
    logits = torch.randn(500, 12) + 1.5 * torch.nn.functional.one_hot(labels, 12)
    # As its evaluate does: accuracy of torch's topk, balanced accuracy of argmax.
    acc1, acc5 = ((logits.topk(k).indices == labels[:, None]).any(dim=1).double().mean().item() for k in (1, 5))
    recall = metrics.balanced_accuracy_score(labels.numpy(), logits.argmax(dim=1).numpy())
    assert list(scores(logits, labels).values()) == pytest.approx([100 * acc1, 100 * acc5, 100 * recall], abs=1e-9)


def test_per_class_recall_is_resampled_by_item() -> None:
    ranks, labels = np.array([1, 1, 2, 1]), np.array([4, 4, 7, 7])
    low, high = classification_accuracies(ranks, labels, 9)["mean_per_class_recall"].interval(resamples=400)
    assert low < 75.0 < high == 100.0
