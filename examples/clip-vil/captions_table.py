"""The table of captions.sh, from the results in the root: CIDEr and BLEU-4, both x 100."""

from __future__ import annotations

import json
import re
import statistics
from typing import Any

from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root

ROWS = {
    "constant": "constant", "nearest": "nearest neighbour", "consensus": "consensus of 30 neighbours",
    "cross-entropy": "cross-entropy", "cross-entropy-shuffled": "its captions at other pictures",
    "self-critical": "self-critical", "self-critical-shuffled": "its captions at other pictures",
}  # fmt: skip


def main() -> None:
    """Print a row each: of several seeds the mean, and the smallest and largest value."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in artifacts.every(default_root(), "result"):
        name = re.fullmatch(r"(.+?)(-s\d+)?(-shuffled)?-(val|test)", result.name)
        if result.manifest and name and name[1] + (name[3] or "") in ROWS:
            scores = json.loads((result.path / "scores.json").read_text(encoding="utf-8"))
            found.setdefault((name[4], name[1] + (name[3] or "")), []).append(scores)
    for split in ("val", "test"):
        print(f"\n| {split} | CIDEr | BLEU-4 |\n|---|---|---|")
        for row, title in ROWS.items():
            if of := found.get((split, row), []):
                print(f"| {title} | {_cell(of, 'CIDEr')} | {_cell(of, 'Bleu_4')} |")


def _cell(scores: list[dict[str, Any]], metric: str) -> str:
    values = [100 * one["metrics"][metric] for one in scores]
    if len(values) > 1:
        return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
    low, high = scores[0].get("intervals", {}).get(metric, (None, None))
    return f"{values[0]:.1f}" + (f" ({100 * low:.1f} to {100 * high:.1f})" if low is not None else "")


if __name__ == "__main__":
    main()
