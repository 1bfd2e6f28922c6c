"""What the tables of the scripts share: results of the root, and cells with intervals, as Markdown.

An item counts with its mean over seeds. Intervals are 95 %, by resampling groups of items (pictures, paths): what other
ones would have given. Behind a semicolon the smallest and the largest seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
