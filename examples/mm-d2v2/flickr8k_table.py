"""The table of flickr8k.sh, from the results in the root: recall, chance, the split's size, seconds of training."""

from __future__ import annotations

import json
import statistics

from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root

ARMS = ("regression", "regression-contrastive", "minilm-random", "minilm-pretrained")
COLUMNS = [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


def main() -> None:
    """Print a row an arm and split; with several seeds the mean and the smallest and largest value."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for result in artifacts.every(default_root(), "result"):
        for arm in ARMS:
            for split in ("val", "test"):
                if result.manifest and result.name.startswith(f"{arm}-s") and result.name.endswith(f"-{split}"):
                    scores = json.loads((result.path / "scores.json").read_text())
                    run = artifacts.read(artifacts.locate(default_root(), result.name.removesuffix(f"-{split}"), "run"))
                    seconds = (run.manifest or {})["seconds"]
                    found.setdefault((split, arm), []).append({**scores["metrics"], "seconds": seconds})
                    data = artifacts.read(artifacts.locate(default_root(), "flickr8k", "data"))
                    tables = data.content["tables"][split]
                    sizes[split] = (tables["images"], tables["texts"])
    print("| split | arm | image to text R@1/5/10 | text to image R@1/5/10 | training, s |")
    print("|---|---|---|---|---|")
    for split, (images, texts) in sorted(sizes.items()):
        chance = "/".join(f"{100 * k / images:.1f}" for k in (1, 5, 10))
        print(f"| {split}: {images:,} photos, {texts:,} captions | chance | about {chance} | {chance} | |")
        for arm in ARMS:
            rows = found.get((split, arm), [])
            if rows:
                cells = [_cell([row[column] for row in rows]) for column in COLUMNS]
                seconds = statistics.mean(row["seconds"] for row in rows)
                print(f"| {split} | {arm} ({len(rows)} seed{'s' if len(rows) > 1 else ''}) "
                      f"| {' / '.join(cells[:3])} | {' / '.join(cells[3:])} | {seconds:,.0f} |")  # fmt: skip


def _cell(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
