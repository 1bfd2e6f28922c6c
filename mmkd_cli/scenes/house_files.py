"""Houses of the built-in world in the formats of Room-to-Room: instructions, graphs, pictures of the views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmkd_cli.scenes.houses import House, house, paths

VIEWS = 36
SPLITS = {"train": ("train", 0), "val_seen": ("train", 1), "val_unseen": ("val", 0)}
"""Split -> whose houses they are, and whether its paths are others than those of training."""


def write(folder: Path, *, seed: int = 0, houses: int = 20, unseen: int = 6, each: int = 60, held: int = 30,
          size: int = 64) -> None:  # fmt: skip
    """R2R_train.json, R2R_val_seen.json, R2R_val_unseen.json, connectivity/ and views/SCAN/VIEWPOINT/00.png to 35.png.

    houses: of training; unseen: of val_unseen, and so many of training in val_seen. each: paths of a house in training;
    held: in the other splits. size: side of a view, pixels.
    """
    made = {
        "train": [house(seed, "train", n) for n in range(houses)],
        "val": [house(seed, "val", n) for n in range(unseen)],
    }
    (folder / "connectivity").mkdir(parents=True, exist_ok=True)
    for own in (one for found in made.values() for one in found):
        text = json.dumps(_graph(own))
        (folder / "connectivity" / f"{own.name}_connectivity.json").write_text(text, encoding="utf-8")
        for room in range(len(own.landmarks)):
            place = folder / "views" / own.name / _name(own, room)
            place.mkdir(parents=True, exist_ok=True)
            for view in range(VIEWS):
                Image.fromarray(own.view(room, view, size)).save(place / f"{view:02d}.png")
    number = 0
    for split, (whose, later) in SPLITS.items():
        rows: list[dict[str, Any]] = []
        for index, own in enumerate(made[whose][: None if split == "train" else unseen]):
            for path in paths(seed, whose, index, held if split != "train" else each, first=each * later):
                rooms = list(path.rooms)
                rows.append({
                    "scan": own.name, "path_id": number, "path": [_name(own, room) for room in rooms],
                    "heading": path.heading, "distance": float(own.distances[rooms[0], rooms[-1]]),
                    "instructions": list(path.instructions),
                })  # fmt: skip
                number += 1
        (folder / f"R2R_{split}.json").write_text(json.dumps(rows), encoding="utf-8")


def _name(own: House, room: int) -> str:
    return f"{own.name}r{room:02d}"


def _graph(own: House) -> list[dict[str, Any]]:
    """Rows of a connectivity file; a pose is a camera that looks along the axes."""
    rows = []
    for room, position in enumerate(own.positions.tolist()):
        pose = np.eye(4)
        pose[:3, 3] = position
        reach = own.doors[room].tolist()
        rows.append({"image_id": _name(own, room), "included": True, "pose": pose.reshape(-1).tolist(),
                     "visible": reach, "unobstructed": reach, "height": position[2]})  # fmt: skip
    return rows
