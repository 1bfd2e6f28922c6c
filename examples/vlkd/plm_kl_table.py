"""The table of plm-kl.sh, from the results in the root: KL of held-out tokens, and recall on the test photos."""

from __future__ import annotations

import json
from pathlib import Path

from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root

ARMS = {"clip": "before", "control": "contrastive alone", "causal": "causal teacher", "masked": "masked teacher",
        "causal-heavy": "causal teacher, scale 1"}  # fmt: skip
COLUMNS = ("image_to_text_recall@1", "image_to_text_recall@10", "text_to_image_recall@1", "text_to_image_recall@10",
           "mean_recall")  # fmt: skip


def cell(value: float, interval: list[float] | None, digits: int) -> str:
    """With its 95 % interval."""
    between = f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else ""
    return f"{value:.{digits}f}{between}"


def of(name: str) -> tuple[str, str] | None:
    """Arm and seed of a run's name, None of others."""
    arm, found, seed = name.rpartition("-s")
    if name == "clip":
        return name, ""
    return (arm, seed) if found and seed.isdigit() and arm in ARMS else None


def main() -> None:
    """Print a row an arm and seed."""
    root = default_root()
    kl = {file.stem: json.loads(file.read_text()) for file in Path(root, "token-kl").glob("*.json")}
    rows = {}
    for result in artifacts.every(root, "result"):
        name = result.name.removesuffix("-test")
        if result.manifest and name != result.name and (found := of(name)):
            scores = json.loads((result.path / "scores.json").read_text())
            cells = [cell(scores["metrics"][column], scores["intervals"].get(column), 1) for column in COLUMNS]
            said = [cell(one["kl"], one["interval"], 3) if (one := kl.get(f"{kind}-{name}")) else ""
                    for kind in ("causal", "masked")]  # fmt: skip
            rows[([*ARMS].index(found[0]), found[1])] = [ARMS[found[0]], found[1], *said, *cells]
    heads = ["", "seed", "KL to the causal teacher", "KL to the masked one", "image to text R@1", "R@10",
             "text to image R@1", "R@10", "mean recall"]  # fmt: skip
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for _, cells in sorted(rows.items()):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
