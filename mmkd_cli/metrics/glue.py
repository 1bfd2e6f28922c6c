"""GLUE's metrics (Wang et al. 2019), each task's own, on its development set. All are 100 times the usual fraction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def accuracy(predicted: Values, true: Values) -> float:
    """[n], [n]: percent that are equal."""
    return float(100 * (predicted == true).mean())


def f1(predicted: Values, true: Values) -> float:
    """Of class 1 (a paraphrase, a duplicate): percent."""
    hits, said, there = (((a == 1) & (b == 1)).sum() for a, b in ((predicted, true), (predicted,) * 2, (true,) * 2))
    return float(200 * hits / (said + there)) if said + there else 0.0


def matthews(predicted: Values, true: Values) -> float:
    """Matthews' correlation of labels 0 and 1; 0 where either is constant."""
    return pearson((predicted == 1).astype(np.float64), (true == 1).astype(np.float64))


def pearson(predicted: Values, true: Values) -> float:
    """0 where either is constant."""
    a, b = predicted - predicted.mean(), true - true.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(100 * (a @ b) / scale) if scale > 0 else 0.0


def spearman(predicted: Values, true: Values) -> float:
    """Pearson's correlation of ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(predicted), _ranks(true))


TASKS: dict[str, tuple[Callable[[Values, Values], float], ...]] = {
    "cola": (matthews,),
    "sst2": (accuracy,),
    "mrpc": (accuracy, f1),
    "qqp": (accuracy, f1),
    "stsb": (pearson, spearman),
    "mnli": (accuracy,),
    "qnli": (accuracy,),
    "rte": (accuracy,),
    "wnli": (accuracy,),
}


def glue_scores(task: str, predicted: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """The task's metrics by name. Labels are the task's numbers, for `stsb` similarities."""
    a, b = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if a.shape != b.shape or not len(a):
        raise ValueError(f"{len(a)} predictions for {len(b)} labels")
    return {metric.__name__: metric(a, b) for metric in TASKS[task]}


def _ranks(values: Values) -> Values:
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    last = times.cumsum()
    ranks: Values = (last - (times - 1) / 2)[place]
    return ranks
