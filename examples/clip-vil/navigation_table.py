"""The table of navigation.sh, from the results in the root; cells as ../tables.py has them, intervals over paths."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import cell, lines, row, table

from mmkd_cli.core.paths import default_root

AGENTS = ("stop", "random", "shortest-random", "shortest")
ENCODERS = {
    "tiny-clip": "tiny CLIP",
    "shape": "class: shape",
    "colour-shape": "class: colour and shape",
    "labels": "labels of all objects",
    "nothing": "no picture",
}
"""An encoder's folder, and how tables name it."""
SCORES = ("SR", "SPL", "NE", "nDTW")


def scored(title: str, names: Sequence[str]) -> None:
    found = [lines(name) for name in names]
    cells = [
        cell(np.array([[one["scores"][score] for one in own] for own in found]), [one["path_id"] for one in found[0]])
        for score in SCORES
    ]
    row(title, cells)


def main() -> None:
    table(["agent", *(f"{score}, m" if score == "NE" else f"{score}, %" for score in SCORES)])
    for agent in AGENTS:
        scored(agent, [f"{agent}-val_unseen"])
    results = default_root() / "results"
    for encoder, title in ENCODERS.items():
        for split in ("val_seen", "val_unseen"):
            if names := sorted(one.name for one in results.glob(f"{encoder}-s?-{split}")):
                scored(f"EnvDrop on {title}, {split}", names)


if __name__ == "__main__":
    main()
