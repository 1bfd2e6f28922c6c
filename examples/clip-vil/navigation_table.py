"""The table of navigation.sh, from the results in the root.

An instruction counts with its mean over seeds. Intervals are 95 %, by resampling paths, so they say what other paths
would have given; behind a semicolon the smallest and the largest seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmkd_cli.benches.outcomes import clusters
from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval

AGENTS = ("stop", "random", "shortest-random", "shortest")
ENCODERS = {"clip": "tiny CLIP", "labels": "class labels"}
SCORES = ("SR", "SPL", "NE", "nDTW")
RESAMPLES = 2000


def lines(name: str) -> list[dict[str, Any]]:
    folder = artifacts.locate(default_root(), name, "result")
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def cell(values: np.ndarray, paths: Sequence[str]) -> str:
    """Of [seeds, items]."""
    items = values.mean(axis=0)
    drawn = bootstrap_means(items[:, None], clusters(paths), resamples=RESAMPLES)[:, 0]
    low, high = percentile_interval(drawn)
    seeds = values.mean(axis=1)
    between = f"; {seeds.min():.1f} to {seeds.max():.1f}" if len(values) > 1 else ""
    return f"{items.mean():.1f} ({low:.1f} to {high:.1f}{between})"


def row(title: str, names: Sequence[str]) -> None:
    found = [lines(name) for name in names]
    cells = [
        cell(np.array([[one["scores"][score] for one in own] for own in found]), [one["path_id"] for one in found[0]])
        for score in SCORES
    ]
    print(f"| {title} | {' | '.join(cells)} |")


def main() -> None:
    print(f"| agent | {' | '.join(f'{s}, m' if s == 'NE' else f'{s}, %' for s in SCORES)} |")
    print("| --- " * (len(SCORES) + 1) + "|")
    for agent in AGENTS:
        row(agent, [f"{agent}-val_unseen"])
    results = default_root() / "results"
    for encoder, title in ENCODERS.items():
        for split in ("val_seen", "val_unseen"):
            if names := sorted(one.name for one in results.glob(f"{encoder}-s?-{split}")):
                row(f"EnvDrop on {title}, {split}", names)


if __name__ == "__main__":
    main()
