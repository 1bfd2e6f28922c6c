"""Labelled pictures that zero-shot classification reads from a set's own files: CIFAR, class folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmkd_cli.benches.own_tables import InFiles, Pictures
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.cifar_files import CIFAR, cifar_files, cifar_picture, read_batch, read_names
from mmkd_cli.data.sources.image_folder import ImageFolder, ImageFolderConfig


@dataclass(frozen=True)
class Labelled:
    """pictures [n]. labels [n], in 0..classes-1. classes: what the set itself calls them."""

    pictures: Pictures
    labels: NDArray[np.int64]
    classes: Sequence[str]


@dataclass(frozen=True)
class InArray:
    """Pictures [n, 3072] uint8: red, green and blue planes of 32 rows, one after another."""

    pixels: NDArray[np.uint8]

    def __call__(self, row: int) -> Image.Image:
        return cifar_picture(self.pixels[row])


def set_files(folder: str, name: str | None) -> dict[str, str]:
    """Key -> file or folder that decides the pictures and labels of a set (`core.contracts.Bench.files`)."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError(f"images {place} is no folder: name the folder that holds the set's pictures")
    if name in CIFAR and (found := cifar_files(place, name, "test")) is not None:
        return {"images": str(found.batches[0]), "class_names": str(found.names)}
    return {"images": str(_class_folders(place))}


def read_set(folder: str, name: str | None) -> Labelled:
    """The pictures by which a set is evaluated: CIFAR's test files, or class folders (below `test` or `val` if there
    is one); UserError names the file, and the row where there is one."""
    place = Path(folder).expanduser()
    if name in CIFAR and (found := cifar_files(place, name, "test")) is not None:
        classes = read_names(found.names, name)
        pixels, labels = read_batch(found.batches[0], name, found.names, classes)
        return Labelled(Pictures([str(row) for row in range(len(pixels))], InArray(pixels)), labels, classes)
    return _from_folders(_class_folders(place))


# ------------------------------------------------------------------------------------------------ class folders
def _class_folders(place: Path) -> Path:
    return next((place / split for split in ("test", "val") if (place / split).is_dir()), place)


def _from_folders(folder: Path) -> Labelled:
    source = ImageFolder(ImageFolderConfig(images=str(folder)))
    table = source.tables()[0]
    if not source.class_names:
        raise UserError(f"images {folder} hold no class folders: put each picture into a folder of its class")
    rows = list(table.read(0, table.rows))
    pictures = Pictures([row["image_id"] for row in rows], InFiles([Path(row["image"]) for row in rows]))
    return Labelled(pictures, np.array([row["label"] for row in rows], np.int64), source.class_names)
