"""`prepare-data --decode draft` against `exact`: pictures a second of whole stages that store a short side of 256.

    python examples/benchmarks/prepare.py [--quick]

JPEGs of 640x480 and of 1280x960 (quality 90, smooth waves with noise), one process, in turn; medians, and the median of
the rounds' ratios. Beside them the resizing of img2dataset (its `keep_ratio`: cv2 reads, INTER_AREA, cv2 writes), where
cv2 is installed; without it that row is said to be not measured. The table goes to stderr, one JSON document to stdout.
`--quick`: 64 pictures and five rounds in place of 256 and nine.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mmkd_cli.core import console
from mmkd_cli.core.config import Layer, resolve
from mmkd_cli.core.contracts import StageContext
from mmkd_cli.stages import prepare_data

SHORT_SIDE, QUALITY, DRAWN = 256, 95, 8
SIZES = ((640, 480), (1280, 960))


def write_pictures(folder: Path, width: int, height: int, count: int) -> Path:
    """`count` files of DRAWN different pictures, and a table of pairs that names them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / height
    drawn = []
    for _ in range(DRAWN):
        waves = np.stack([np.sin(rng.uniform(4, 40) * x + rng.uniform(4, 40) * y) for _ in range(3)], -1)
        noise = rng.normal(0, 6, (height, width, 1))
        out = io.BytesIO()
        Image.fromarray((waves * 90 + 128 + noise).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
        drawn.append(out.getvalue())
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(drawn[number % DRAWN])
    table = folder / "pairs.csv"
    table.write_text("path,caption\n" + "\n".join(f"{number}.jpg,a picture" for number in range(count)))
    return table


def stage_seconds(table: Path, decode: str, name: str) -> float:
    """Of one `prepare-data`, start to manifest."""
    keys = {"source": {"name": "image-text", "annotations": str(table)}, "decode": decode, "image_size": SHORT_SIDE,
            "quality": QUALITY}  # fmt: skip
    config = resolve(prepare_data.Config, [Layer("benchmark", keys)]).config
    began = time.perf_counter()
    prepare_data.run(config, StageContext(table.parent / "work", name=name))
    return time.perf_counter() - began


def cv2_seconds(table: Path) -> float:
    """Of reading, resizing and encoding alone, as img2dataset's resizer does it."""
    import cv2

    cv2.setNumThreads(1)
    began = time.perf_counter()
    for path in table.parent.glob("*.jpg"):
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        scale = SHORT_SIDE / min(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return time.perf_counter() - began


def compared(table: Path, pictures: int, rounds: int) -> dict[str, float]:
    """Pictures a second of each way, and ratios of times in the same round."""
    ways = ["exact", "draft", *(["cv2"] if importlib.util.find_spec("cv2") else [])]
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(rounds + 1):  # the first one imports libraries
        for way in ways:
            seconds = cv2_seconds(table) if way == "cv2" else stage_seconds(table, way, f"{way}-{round_}")
            if round_:
                taken[way].append(seconds)
    found = {f"{way}_pictures_per_s": pictures / statistics.median(values) for way, values in taken.items()}
    for other, way in (("exact", "draft"), ("cv2", "exact")):
        if other in taken:
            ratios = [a / b for a, b in zip(taken[other], taken[way], strict=True)]
            found[f"{way}_vs_{other}"] = statistics.median(ratios)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 pictures and five rounds in place of 256 and nine")
    pictures, rounds = (64, 5) if parser.parse_args().quick else (256, 9)
    console.LEVEL.quiet = True
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for width, height in SIZES:
            table = write_pictures(Path(name) / f"{width}", width, height, pictures)
            rows = compared(table, pictures, rounds)
            found |= {f"{row}_{width}x{height}": value for row, value in rows.items()}
    for row, value in found.items():
        target = ">= 1.5" if row.startswith("draft_vs_exact") else ""
        print(f"{row:<36}{value:>10,.3f}   {target}", file=sys.stderr)
    if not importlib.util.find_spec("cv2"):
        print("img2dataset's resizing: not measured, cv2 is not installed", file=sys.stderr)
    print(json.dumps({"pictures": pictures, "rounds": rounds, "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
