"""Three houses of twelve rooms on a grid in the official formats: graphs, instructions, features of views."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

WIDE, DEEP, METRES, CHANNELS = 4, 3, 2.0, 8


def write_houses(folder: Path, paths: int = 30) -> dict[str, Path]:
    """train in the houses A and B, val_seen in A, val_unseen in C; an instruction names the room to stop in."""
    rng = np.random.default_rng(0)
    (folder / "connectivity").mkdir(parents=True)
    lines = []
    for scan in "ABC":
        (folder / f"connectivity/{scan}_connectivity.json").write_text(json.dumps(graph(scan)))
        for node in range(WIDE * DEEP):
            data = base64.b64encode(features(node).tobytes()).decode()
            lines.append(f"{scan}\t{scan}{node}\t640\t480\t60\t{data}\n")
    (folder / "views.tsv").write_text("".join(lines))
    for split, scans, first in (("train", "AB", 0), ("val_seen", "A", 500), ("val_unseen", "C", 600)):
        count = paths if split == "train" else 5
        rows = [way(rng, scan, first + 100 * k + n) for k, scan in enumerate(scans) for n in range(count)]
        (folder / f"R2R_{split}.json").write_text(json.dumps(rows))
    return {"annotations": folder, "connectivity": folder / "connectivity"}


def graph(scan: str) -> list[dict[str, Any]]:
    """Rooms two metres apart; each leads to those beside, before and behind it."""
    at = [(node % WIDE, node // WIDE) for node in range(WIDE * DEEP)]
    return [
        {"image_id": f"{scan}{node}", "included": True, "visible": [True] * len(at), "height": 1.5,
         "pose": [1, 0, 0, x * METRES, 0, 1, 0, y * METRES, 0, 0, 1, 1.5, 0, 0, 0, 1],
         "unobstructed": [abs(x - a) + abs(y - b) == 1 for a, b in at]}
        for node, (x, y) in enumerate(at)
    ]  # fmt: skip


def features(node: int) -> np.ndarray:
    """float32 [36, CHANNELS] of a room, the same in every house: a view knows its room."""
    return np.random.default_rng(node).standard_normal((36, CHANNELS)).astype("<f4")


def way(rng: np.random.Generator, scan: str, number: int) -> dict[str, Any]:
    """A path of two to four rooms, none twice, with three instructions."""
    at = [(int(rng.integers(WIDE)), int(rng.integers(DEEP)))]
    for _ in range(3):
        x, y = at[-1]
        free = [(x + a, y + b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        free = [(a, b) for a, b in free if 0 <= a < WIDE and 0 <= b < DEEP and (a, b) not in at]
        if free:
            at.append(free[int(rng.integers(len(free)))])
    path = [f"{scan}{y * WIDE + x}" for x, y in at]
    said = [f"Walk to room {path[-1][1:]}, {more}." for more in ("please", "now", "and stop")]
    return {"scan": scan, "path_id": number, "path": path, "heading": float(rng.random() * 6), "distance": 6.0,
            "instructions": said}  # fmt: skip
