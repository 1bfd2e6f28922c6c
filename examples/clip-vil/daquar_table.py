"""The table of daquar.sh, from the results in the root; cells as ../tables.py has them, intervals over photos."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import Values, cell, lines, row, table

from mmkd_cli.core.paths import default_root

ARMS = {"rooms": "question and cells", "grey": "question alone"}


def main() -> None:
    table(["DAQUAR, test", "exact answers, %"])
    right: dict[str, Values] = {}
    for arm, title in ARMS.items():
        found = [lines(one.name) for one in sorted((default_root() / "results").glob(f"{arm}-s*-test"))]
        right[arm] = np.array([[100 * float(one["right"]["accuracy"]) for one in own] for own in found])
        photos = [one["images"][0] for one in found[0]]
        row(title, [cell(right[arm], photos)])
    row("difference", [cell(right["rooms"] - right["grey"], photos, sign=True)])


if __name__ == "__main__":
    main()
