"""The table of claim-scenes.sh, from the results in the root; with --plot FILE.svg also a drawing of it.

Percent right; cells as ../tables.py has them. Differences between arms are over the same pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import Scored, arms, differences

TEACHERS = {"beit2": "BEiT-2", "dino": "DINO", "d2v2": "data2vec 2.0"}
ARMS = {
    "none": "no teacher: contrast alone",
    **{f"{teacher}-{loss}": f"{title}, {said}" for teacher, title in TEACHERS.items()
       for loss, said in (("mse", "MSE"), ("bank", "contrast with a bank"))},
}  # fmt: skip
METRICS = {
    "text to image R@1": ("retrieval", "text_to_image_recall@1"),
    "image to text R@1": ("retrieval", "image_to_text_recall@1"),
    "zero-shot, 64 classes": ("classes", "acc1"),
}


def draw(found: dict[str, Scored], file: Path) -> None:
    """The mean over seeds and the smallest and largest seed, an arm a place."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mmkd"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for place, metric in enumerate(METRICS):
        seeds: list[Any] = [arm[metric][0].mean(axis=1) for arm in found.values()]
        mean, low, high = (np.array([of(own) for own in seeds]) for of in (np.mean, np.min, np.max))
        x = np.arange(len(seeds)) + 0.15 * (place - 1)
        axes.errorbar(x, mean, [mean - low, high - mean], fmt="o", capsize=3, label=metric)
    titles = [ARMS[arm].replace(", ", ",\n").replace(": ", ":\n") for arm in found]
    axes.set_xticks(range(len(found)), titles, fontsize="small")
    axes.set_ylabel("right, %")
    axes.set_ylim(0, 100)
    axes.legend(loc="upper right", fontsize="small")
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="file.svg to draw into")
    arguments = parser.parse_args()
    found = arms(ARMS, METRICS)
    pairs = [(arm, "none") for arm in found if arm != "none"]
    differences(found, ARMS, [*pairs, *((f"{teacher}-bank", f"{teacher}-mse") for teacher in TEACHERS)])
    if arguments.plot:
        draw(found, arguments.plot)


if __name__ == "__main__":
    main()
