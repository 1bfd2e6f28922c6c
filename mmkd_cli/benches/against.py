"""Two results of one bench on the same items: what changed, and whether that is more than chance.

Both are read from their predictions.jsonl, so that nothing is scored again. Of each line count `id`, `right`
{metric: bool}, `group` {metric: name} where a metric is a mean over groups, and `image`, whose items are drawn
together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmkd_cli.benches.outcomes import clusters
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.metrics.accuracy import Accuracy
from mmkd_cli.metrics.mcnemar import mcnemar_p
from mmkd_cli.reports.blocks import Cell, Table
from mmkd_cli.reports.page import shown

RESAMPLES, SEED = 1000, 0
_NAMED = 10
"""Changed items that are named in the terminal; the JSON has all."""

Lines = dict[str, dict[str, Any]]


def open_other(root: Path, name: str, bench: str) -> Artifact:
    """The other result, finished; UserError where it is of another bench."""
    other = artifacts.open_artifact(root, name, "result")
    if (found := other.content.get("bench")) != bench:
        raise UserError(f"--against {name}: it is of bench {found!r}, this one of {bench!r}")
    return other


def compare(folder: Path, other: Artifact) -> dict[str, Any]:
    """{"result", "model", "metrics": {name: ...}, "changed": [...]} of the result in `folder` against another.

    UserError where the two are not of one set of items.
    """
    document, known = paths.read_json(folder / "scores.json"), paths.read_json(other.path / "scores.json")
    own, before = _lines(folder), _lines(other.path)
    if own.keys() != before.keys():
        alone = sorted(own.keys() ^ before.keys())
        raise UserError(
            f"--against {other.name}: {len(alone):,} items are in one of the two results only, the first is "
            f"{alone[0]!r}: score both on the same files"
        )
    differ = [name for name, value in known["fingerprints"].items()
              if name not in _OF_THE_MODEL and document["fingerprints"].get(name, value) != value]  # fmt: skip
    if differ:
        raise UserError(
            f"--against {other.name}: its items are others ({differ[0]} differ): score both on the same files"
        )
    if not any(line.get("right") for line in own.values()):
        raise UserError(f"--against {other.name}: bench {document['bench']!r} has no items that are right or wrong")
    judged = dict.fromkeys(name for line in own.values() for name in line["right"])
    metrics = [name for name in document["metrics"] if name in judged] or list(judged)
    return {
        "result": other.name,
        "model": known["model"]["name"],
        "metrics": {name: _compared(name, own, before) for name in metrics},
        "changed": list(_changed(own, before)),
    }


_OF_THE_MODEL = ("model", "model.0", "model.1", "cache", "embeddings", "predictions", "images")
"""Fingerprints that do not tell which items were scored. (The same pictures may lie in two folders.)"""


def _lines(folder: Path) -> Lines:
    found: Lines = {}
    with open(folder / "predictions.jsonl", encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
                found[str(line.get("id", number))] = {"right": {}, **line}
            except (ValueError, AttributeError):
                raise Refused(f"{folder / 'predictions.jsonl'} line {number} is damaged: evaluate again") from None
    return found


def _compared(metric: str, own: Lines, before: Lines) -> dict[str, Any]:
    """Both values in percent, their difference with the paired bootstrap's 95 % interval, and McNemar's test."""
    ids = [name for name, line in own.items() if metric in line["right"]]
    missing = [name for name in ids if metric not in before[name]["right"]]
    if missing:
        raise UserError(f"the other result does not judge item {missing[0]!r} by {metric}: score both with one release")
    now, then = (np.array([lines[name]["right"][metric] for name in ids], bool) for lines in (own, before))
    group = [str(own[name].get("group", {}).get(metric, "")) for name in ids]
    cluster = clusters([str(own[name].get("image", name)) for name in ids])
    accuracy = Accuracy(now, clusters(group), cluster)
    difference, interval = accuracy.less(then, resamples=RESAMPLES, seed=SEED)
    gained, lost = int((now & ~then).sum()), int((then & ~now).sum())
    return {
        "value": accuracy.value(),
        "other": Accuracy(then, clusters(group), cluster).value(),
        "difference": difference,
        "interval": list(interval),
        "gained": gained,
        "lost": lost,
        "mcnemar_p": mcnemar_p(gained, lost),
        "items": len(ids),
    }


def _changed(own: Lines, before: Lines) -> Any:
    """{"id", "gained": [metric...], "lost": [metric...]} of each item that is judged otherwise."""
    for name, line in own.items():
        then = before[name]["right"]
        gained = [metric for metric, right in line["right"].items() if right and not then.get(metric, True)]
        lost = [metric for metric, right in line["right"].items() if not right and then.get(metric, False)]
        if gained or lost:
            yield {"id": name, "gained": gained, "lost": lost}


def table(document: Mapping[str, Any]) -> Table:
    """The comparison of a document's `against`, for the terminal."""
    found = document["against"]
    columns = ["metric", "this", "other", "difference", "95 %, paired", "gained", "lost", "McNemar's p"]
    rows: list[list[Cell]] = []
    for name, of in found["metrics"].items():
        interval = " to ".join(map(shown, of["interval"]))
        p = f"{of['mcnemar_p']:.3g}"
        rows.append([name, of["value"], of["other"], of["difference"], interval, of["gained"], of["lost"], p])
    return Table(columns, rows, f"against result {found['result']!r}: {found['model']}")


def sentence(document: Mapping[str, Any]) -> str:
    """The changed items by name, some of them."""
    parts = []
    for way in ("gained", "lost"):
        names = [item["id"] for item in document["against"]["changed"] if item[way]]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        parts.append(f"{way}: {', '.join(names[:_NAMED]) or 'none'}{more}")
    return "; ".join(parts)
