"""Items that are right or wrong by each metric: from these come scores, intervals, and what predictions.jsonl says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.metrics.accuracy import Accuracy


@dataclass(frozen=True)
class Outcome:
    """One metric. items [m]: places, among all items of the bench, of those that it judges; accuracy: over these.

    groups: names of the accuracy's groups, where it is a mean over groups.
    """

    items: NDArray[np.int64]
    accuracy: Accuracy
    groups: Sequence[str] | None = None


Outcomes = Mapping[str, Outcome]
"""By the metric's name."""


def clusters(names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of names that are equal: items of one picture are not independent."""
    found: NDArray[np.int64] = np.unique(np.asarray(names), return_inverse=True)[1]
    return found


def values(outcomes: Outcomes) -> dict[str, float]:
    """Percent."""
    return {name: outcome.accuracy.value() for name, outcome in outcomes.items()}


def intervals(outcomes: Outcomes, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric; none with 0 resamples."""
    if not resamples:
        return {}
    return {name: o.accuracy.interval(resamples=resamples, seed=seed) for name, o in outcomes.items()}


def verdicts(outcomes: Outcomes, items: int) -> list[dict[str, Any]]:
    """Of each item {"right": {metric: bool}, "group": {metric: name}}; `group` only where a metric is over groups."""
    said: list[dict[str, Any]] = [{"right": {}} for _ in range(items)]
    for name, outcome in outcomes.items():
        for place, (item, right) in enumerate(
            zip(outcome.items.tolist(), outcome.accuracy.right.tolist(), strict=True)
        ):
            said[item]["right"][name] = right
            if outcome.groups is not None and outcome.accuracy.group is not None:
                said[item].setdefault("group", {})[name] = outcome.groups[outcome.accuracy.group[place]]
    return said
