"""What classifications of pictures have in common: their items, scores, and the lines of predictions.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches import classification_page
from mmkd_cli.benches.outcomes import Outcome, intervals, values, verdicts
from mmkd_cli.core.contracts import Scores
from mmkd_cli.metrics.classification import TOP_K, classification_accuracies, label_ranks


@dataclass(frozen=True)
class Task:
    """What is classified. data: table `images`; rows [n] of it that are scored, labels [n]; names of all classes."""

    data: Any
    split: str
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: Sequence[str]
    skipped: int = 0

    def ids(self) -> list[str]:
        if self.data is None:
            return [str(place) for place in range(len(self.rows))]
        column = self.data.images.with_format("arrow")
        return [column[[row]].column("image_id")[0].as_py() for row in self.rows.tolist()]


class Ranked(NamedTuple):
    """What a model says of n items: ranks of their labels [n], the best classes [n, k] and their scores [n, k]."""

    ranks: NDArray[np.int64]
    top: NDArray[np.int64]
    scores: NDArray[np.floating]


def ranked(parts: Iterator[tuple[Tensor, Tensor]]) -> Ranked:
    """Of parts of the items, one after another: scores [b, classes] and labels int64 [b]."""
    ranks, top, scores = [], [], []
    for said, labels in parts:
        best = said.topk(min(TOP_K, said.shape[1]), dim=1)
        ranks.append(label_ranks(said, labels))
        top.append(best.indices)
        scores.append(best.values)
    return Ranked(torch.cat(ranks).numpy(), torch.cat(top).numpy(), torch.cat(scores).numpy())


def classification_scores(
    task: Task, found: Ranked, config: Any, metrics_only: bool, score: str = "cosines"
) -> Scores:  # fmt: skip
    """Accuracies, and unless metrics alone are wanted intervals, items and a page. config: of the bench, which has
    `bootstrap`, `seed` and `shown`. score: what the scores are."""
    accuracies = classification_accuracies(found.ranks, task.labels, len(task.names))
    places = np.arange(len(found.ranks))
    present = [task.names[label] for label in np.unique(task.labels).tolist()]
    outcomes = {
        name: Outcome(places, accuracy, present if accuracy.group is not None else None)
        for name, accuracy in accuracies.items()
    }
    said = Scores(
        metrics=values(outcomes),
        counts={"items": len(places), "skipped": task.skipped, "classes": len(task.names)},
        by={"chance": chance(list(outcomes), len(task.names)), **_by_class(found.ranks, task)},
    )
    if metrics_only:
        return said
    said.intervals = intervals(outcomes, config.bootstrap, config.seed)
    said.items = _lines(task.ids(), task, found, verdicts(outcomes, len(places)))
    said.page = classification_page.blocks(task, found, config.shown, config.seed, score)
    return said


def chance(metrics: Sequence[str], classes: int) -> dict[str, float]:
    """Percent of a random order."""
    return {name: 100 * (TOP_K if name == "acc5" else 1) / classes for name in metrics}


def _by_class(ranks: NDArray[np.int64], task: Task) -> dict[str, dict[str, float]]:
    """Recall and number of items of each class that occurs."""
    found = {}
    for label in np.unique(task.labels).tolist():
        own = ranks[task.labels == label]
        found[f"class {label}: {task.names[label]}"] = {"recall": 100 * float((own <= 1).mean()), "items": len(own)}
    return found


def _lines(
    ids: Sequence[str], task: Task, found: Ranked, said: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A line a picture: its label's rank, and the best classes with their scores."""
    for place, (identifier, verdict) in enumerate(zip(ids, said, strict=True)):
        best = zip(found.top[place].tolist(), found.scores[place].tolist(), strict=True)
        yield {
            "id": identifier,
            "label": task.names[task.labels[place]],
            "rank": int(found.ranks[place]),
            "top": [{"class": task.names[number], "score": score} for number, score in best],
            **verdict,
        }
