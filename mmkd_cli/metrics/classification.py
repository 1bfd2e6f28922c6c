"""Accuracy of a classifier from its logits, ties counted as wrong."""

from __future__ import annotations

import torch
from torch import Tensor

TOP_K = 5


@torch.no_grad()
def classification_scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """logits [n, classes], labels [n] int in 0..classes-1 -> `acc1`, `acc5`, `mean_per_class_recall` in percent.

    A row's rank is 1 + the number of other classes that do not score lower than its label. `acc5` is left out with
    fewer than five classes; `mean_per_class_recall` is the mean of `acc1` over the classes that occur in the labels.
    """
    own = logits.gather(1, labels[:, None])
    rank = logits.shape[1] - (logits < own).sum(dim=1)
    correct = (rank <= 1).double()
    scores = {"acc1": 100 * correct.mean().item()}
    if logits.shape[1] >= TOP_K:
        scores["acc5"] = 100 * (rank <= TOP_K).double().mean().item()
    items = torch.bincount(labels)
    recall = torch.bincount(labels, weights=correct)[items > 0] / items[items > 0]
    scores["mean_per_class_recall"] = 100 * recall.mean().item()
    return scores
