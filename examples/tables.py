"""What the tables of the scripts share: results of the root, and cells with intervals, as Markdown.

An item counts with its mean over seeds. Intervals are 95 %, by resampling groups of items (pictures, paths): what other
ones would have given. Behind a semicolon the smallest and the largest seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches.outcomes import clusters
from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval

RESAMPLES = 2000

Values = NDArray[np.float64]
"""[seeds, items]."""

Scored = dict[str, tuple[Values, list[str]]]
"""Column -> values in percent, and each item's picture."""


def lines(name: str) -> list[dict[str, Any]]:
    """Of a result, an item each."""
    folder = artifacts.locate(default_root(), name, "result")
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def cell(values: Values, groups: Sequence[str], *, sign: bool = False) -> str:
    """Mean, interval, and the smallest and largest seed's mean. groups: each item's."""
    items, form = values.mean(axis=0), "{:+.1f}" if sign else "{:.1f}"
    low, high = percentile_interval(bootstrap_means(items[:, None], clusters(groups), resamples=RESAMPLES)[:, 0])
    seeds = [form.format(one) for one in (values.mean(axis=1).min(), values.mean(axis=1).max())]
    between = f"; {seeds[0]} to {seeds[1]}" if len(values) > 1 else ""
    return f"{form.format(items.mean())} ({form.format(low)} to {form.format(high)}{between})"


def row(title: str, cells: Sequence[str]) -> None:
    """Print a row."""
    print(f"| {title} | {' | '.join(cells)} |")


def table(columns: Sequence[str]) -> None:
    """Print a table's head."""
    print()
    row(columns[0], columns[1:])
    row("---", ["---"] * (len(columns) - 1))


def arms(titles: Mapping[str, str], columns: Mapping[str, tuple[str, str]]) -> dict[str, Scored]:
    """Print a row an arm, and return what was read. titles: arm -> what it is called. columns: title -> (part, metric)
    of results `ARM-sSEED-PART`, whose items say by `right` whether they are; seeds count that have all parts."""
    done = {result.name for result in artifacts.every(default_root(), "result") if result.manifest}
    parts, found = {part for part, _ in columns.values()}, {}
    table(["arm", *columns])
    for arm, title in titles.items():
        seeds = {match[1] for name in done if (match := re.fullmatch(rf"{arm}-s(\d+)-.+", name))}
        names = sorted(f"{arm}-s{seed}" for seed in seeds if all(f"{arm}-s{seed}-{part}" in done for part in parts))
        if names:
            found[arm] = {column: _rights(names, *place) for column, place in columns.items()}
            cells = [cell(*found[arm][column]) for column in columns]
            row(f"{title} ({len(names)} seed{'s' if len(names) > 1 else ''})", cells)
    return found


def differences(found: Mapping[str, Scored], titles: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> None:
    """Print how much more right the first of each pair of arms is, over the same pictures and seeds."""
    for first, second in pairs:
        if {first, second} <= set(found):
            cells = []
            for (a, groups), (b, _) in zip(found[first].values(), found[second].values(), strict=True):
                seeds = min(len(a), len(b))
                cells.append(cell(a[:seeds] - b[:seeds], groups, sign=True))
            row(f"{titles[first]} less {titles[second]}", cells)


def _rights(names: Sequence[str], part: str, metric: str) -> tuple[Values, list[str]]:
    own = [[one for one in lines(f"{name}-{part}") if metric in one["right"]] for name in names]
    values = np.array([[100.0 * one["right"][metric] for one in of_seed] for of_seed in own])
    return values, [one.get("image", one["id"]) for one in own[0]]


def caption_scores(rows: Mapping[str, str]) -> None:
    """Print CIDEr and BLEU-4, both x 100, of results `NAME[-sSEED][-shuffled]-SPLIT` of val and test. rows: NAME, and
    NAME-shuffled, to its title. Of several seeds the mean, the smallest and the largest; of one its 95 % interval."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in artifacts.every(default_root(), "result"):
        name = re.fullmatch(r"(.+?)(-s\d+)?(-shuffled)?-(val|test)", result.name)
        if result.manifest and name and name[1] + (name[3] or "") in rows:
            scores = json.loads((result.path / "scores.json").read_text(encoding="utf-8"))
            found.setdefault((name[4], name[1] + (name[3] or "")), []).append(scores)
    for split in ("val", "test"):
        table([split, "CIDEr", "BLEU-4"])
        for name, title in rows.items():
            if of := found.get((split, name), []):
                row(title, [_scored(of, metric) for metric in ("CIDEr", "Bleu_4")])


def _scored(scores: Sequence[dict[str, Any]], metric: str) -> str:
    values = [100 * one["metrics"][metric] for one in scores]
    if len(values) > 1:
        return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
    low, high = scores[0].get("intervals", {}).get(metric, (None, None))
    return f"{values[0]:.1f}" + (f" ({100 * low:.1f} to {100 * high:.1f})" if low is not None else "")
