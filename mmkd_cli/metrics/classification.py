"""Accuracies of a classifier from its logits, ties counted as wrong."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.metrics.accuracy import Accuracy

TOP_K = 5


@torch.no_grad()
def label_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """logits [n, classes], labels [n] int in 0..classes-1 -> int64 [n], from 1.

    A row's rank is 1 + the number of other classes that do not score lower than its label; with NaN it is the last.
    """
    own = logits.gather(1, labels[:, None])
    return logits.shape[1] - (logits < own).sum(dim=1)


def classification_accuracies(ranks: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> dict[str, Accuracy]:
    """ranks, labels [n] -> `acc1`, `acc5` (not with fewer than five classes), `mean_per_class_recall`.

    The last is the mean of `acc1` over the classes that occur among the labels.
    """
    accuracies = {"acc1": Accuracy(ranks <= 1)}
    if classes >= TOP_K:
        accuracies["acc5"] = Accuracy(ranks <= TOP_K)
    accuracies["mean_per_class_recall"] = Accuracy(ranks <= 1, np.unique(labels, return_inverse=True)[1])
    return accuracies
