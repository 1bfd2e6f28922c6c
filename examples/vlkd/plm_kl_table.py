"""The table of plm-kl.sh, from the results in the root: KL of held-out tokens, and recall on the test photos."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from mmkd_cli.core.paths import default_root

ARMS = {"clip": "before", "control": "contrastive alone", "causal": "causal teacher", "masked": "masked teacher",
        "causal-heavy": "causal teacher, scale 1"}  # fmt: skip
COLUMNS = ("image_to_text_recall@1", "image_to_text_recall@10", "text_to_image_recall@1", "text_to_image_recall@10",
           "mean_recall")  # fmt: skip


def cell(scored: Sequence[tuple[float, Sequence[float] | None]], digits: int) -> str:
    """Values with their 95 % intervals: of several seeds the mean, the smallest and the largest; else the interval."""
    if not scored:
        return ""
    values = [value for value, _ in scored]
    low, high = (min(values), max(values)) if len(values) > 1 else scored[0][1] or (None, None)
    between = f" ({low:.{digits}f} to {high:.{digits}f})" if low is not None else ""
    return f"{statistics.mean(values):.{digits}f}{between}"


def main() -> None:
    """Print a row an arm."""
    root = default_root()
    heads = ["", "seeds", "KL to the causal teacher", "KL to the masked one", "image to text R@1", "R@10",
             "text to image R@1", "R@10", "mean recall"]  # fmt: skip
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for arm, title in ARMS.items():
        runs = [arm] if arm == "clip" else sorted(run.name for run in (root / "runs").glob(f"{arm}-s*"))
        results = [root / "results" / f"{run}-test" / "scores.json" for run in runs]
        scores = [json.loads(file.read_text(encoding="utf-8")) for file in results if file.is_file()]
        if not scores:
            continue
        cells = []
        for kind in ("causal", "masked"):
            files = [root / "token-kl" / f"{kind}-{run}.json" for run in runs]
            said = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
            cells.append(cell([(one["kl"], one["interval"]) for one in said], 3))
        for column in COLUMNS:
            cells.append(cell([(one["metrics"][column], one["intervals"].get(column)) for one in scores], 1))
        print(f"| {title} | {len(scores)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
