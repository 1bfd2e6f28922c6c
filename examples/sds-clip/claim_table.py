"""The table of claim.sh and ablations.sh, from the results in the root; with --plot FILE.svg also a drawing of it.

Swaps: percent of items whose captions are both told apart (Winoground's text score; --metric image or group for the
others, two-way for the share of pictures whose own caption scores higher). An item counts with its mean over seeds.
Intervals are 95 %, by resampling items, so they say what other items would have given; how far seeds lie apart stands
beside them. Differences between arms are over the same items.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_cli import scenes
from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root

SETS = ("seen", "held-out")
ARMS = {"zero-shot": "zero-shot", "contrastive": "contrastive", "contrastive + SDS": "sds"}
SCORER = "diffusion scorer"
OTHERS = {"shape": ("shape", "acc1"), "colour": ("colour", "acc1"), "retrieval": ("retrieval", "mean_recall")}
CHANCE = {"text": 25, "image": 25, "group": 100 / 6, "two-way": 50}
RESAMPLES = 2000

Rights = dict[str, NDArray[np.float64]]
"""Kind of swap -> [seeds, items]: 1 where an item is right."""


def results(prefix: str) -> list[str]:
    """Names of an arm's results without the part they are of, whole ones: the arm's own, or one a seed."""
    done = {result.name for result in artifacts.every(default_root(), "result") if result.manifest}
    parts = SETS if prefix == "diffusion" else (*SETS, *(part for part, _ in OTHERS.values()))
    names = {name.removesuffix(f"-{SETS[0]}") for name in done if name.endswith(f"-{SETS[0]}")}
    whole = [name for name in names if all(f"{name}-{part}" in done for part in parts)]
    return sorted(name for name in whole if name == prefix or name.startswith(f"{prefix}-s"))


def folder(name: str) -> Path:
    return artifacts.locate(default_root(), name, "result")


def rights(names: Sequence[str], metric: str) -> Rights:
    """Of results that are whole, by kind of swap."""
    found: dict[str, list[list[float]]] = {}
    for name in names:
        own: dict[str, list[float]] = {}
        for part in SETS:
            for line in (folder(f"{name}-{part}") / "predictions.jsonl").read_text().splitlines():
                item = json.loads(line)
                own.setdefault(item["tag"], []).append(two_way(item) if metric == "two-way" else item["right"][metric])
        for kind, values in own.items():
            found.setdefault(kind, []).append(values)
    return {kind: np.array(values) for kind, values in found.items()}


def two_way(item: dict[str, Any]) -> float:
    """Of an item's two pictures the share whose own caption scores higher. scores: each caption with each picture."""
    c0_i0, c0_i1, c1_i0, c1_i1 = item["scores"]
    return ((c0_i0 > c1_i0) + (c1_i1 > c0_i1)) / 2


def interval(items: NDArray[np.float64]) -> tuple[float, float, float]:
    """items [n] -> mean, and the 2.5 and 97.5 % points of resampled means, in percent."""
    drawn = np.random.default_rng(0).integers(len(items), size=(RESAMPLES, len(items)))
    low, high = np.percentile(items[drawn].mean(axis=1), (2.5, 97.5))
    return 100 * items.mean(), 100 * low, 100 * high


def cell(values: NDArray[np.float64]) -> str:
    """[seeds, items] -> mean, interval, and the smallest and largest seed's mean."""
    mean, low, high = interval(values.mean(axis=0))
    seeds = f"; {100 * values.mean(axis=1).min():.1f}-{100 * values.mean(axis=1).max():.1f}" if len(values) > 1 else ""
    return f"{mean:.1f} ({low:.1f} to {high:.1f}{seeds})"


def other(names: Sequence[str], part: str, metric: str) -> str:
    """Mean over seeds of a score, with its range; of one seed with the interval of its result."""
    documents = [json.loads((folder(f"{name}-{part}") / "scores.json").read_text()) for name in names]
    values = [document["metrics"][metric] for document in documents]
    low, high = (min(values), max(values)) if len(values) > 1 else documents[0]["intervals"][metric]
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"


def row(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def table(arms: dict[str, list[str]], metric: str) -> dict[str, Rights]:
    """Print a row an arm, and the differences between arms; returns what was read."""
    kinds = list(scenes.SWAP_KINDS)
    print(row("arm", [*kinds, *OTHERS]))
    print(row("---", ["---"] * (len(kinds) + len(OTHERS))))
    read: dict[str, Rights] = {}
    for title, names in arms.items():
        read[title] = rights(names, metric)
        seeds = f" ({len(names)} seeds)" if len(names) > 1 else ""
        others = ["" if title == SCORER else other(names, *place) for place in OTHERS.values()]
        print(row(title + seeds, [*(cell(read[title][kind]) for kind in kinds), *others]))
    return read


def differences(read: dict[str, Rights], pairs: Sequence[tuple[str, str]]) -> None:
    """Print how much more right the first of each pair is, over the items that both have."""
    for first, second in pairs:
        cells = []
        for kind in scenes.SWAP_KINDS:
            a, b = (read[title][kind].mean(axis=0) for title in (first, second))
            n = min(len(a), len(b))
            cells.append("{:+.1f} ({:+.1f} to {:+.1f})".format(*interval(a[:n] - b[:n])))
        print(row(f"{first} less {second}", [*cells, *([""] * len(OTHERS))]))


def draw(read: dict[str, Rights], metric: str, file: Path) -> None:
    """A point and an interval for each arm and kind of swap."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mmkd"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for place, (title, kinds) in enumerate(read.items()):
        points = np.array([interval(kinds[kind].mean(axis=0)) for kind in scenes.SWAP_KINDS])
        x = np.arange(len(points)) + 0.15 * (place - (len(read) - 1) / 2)
        mean, low, high = points.T
        axes.errorbar(x, mean, [mean - low, high - mean], fmt="o", capsize=3, label=title)
    axes.axhline(CHANCE[metric], color="grey", linestyle=":", label="chance")
    axes.set_xticks(range(len(scenes.SWAP_KINDS)), [kind.replace("-", "\n", 1) for kind in scenes.SWAP_KINDS])
    axes.set_ylabel(f"{metric} score, %")
    axes.set_ylim(0, 100)
    axes.legend(loc="upper right", fontsize="small")
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metric", choices=tuple(CHANCE), default="text")
    parser.add_argument("--ablations", action="store_true", help="the rows of ablations.sh")
    parser.add_argument("--plot", type=Path, help="file.svg to draw into")
    arguments = parser.parse_args()
    if arguments.ablations:
        runs = [run.name for run in artifacts.every(default_root(), "run") if run.name.startswith("ablation-")]
        run = {name.removeprefix("ablation-"): [name] for name in runs if results(name)}
        read = table({"zero-shot": ["zero-shot"], "contrastive": ["contrastive-s0"], **run}, arguments.metric)
        differences(read, [(name, "contrastive") for name in run])
        return
    found: dict[str, Any] = {title: results(prefix) for title, prefix in {**ARMS, SCORER: "diffusion"}.items()}
    read = table({title: names for title, names in found.items() if names}, arguments.metric)
    pairs = [("contrastive + SDS", "contrastive"), ("contrastive + SDS", "zero-shot"), ("contrastive", "zero-shot"),
             (SCORER, "zero-shot")]  # fmt: skip
    differences(read, [pair for pair in pairs if set(pair) <= set(read)])
    if arguments.plot:
        draw(read, arguments.metric, arguments.plot)


if __name__ == "__main__":
    main()
