"""Labelled pictures that zero-shot classification reads from a set's own files: CIFAR, class folders."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmkd_cli.benches.own_tables import InFiles, Pictures
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.image_folder import ImageFolder, ImageFolderConfig

SIDE = 32
"""Of CIFAR's pictures, in pixels."""

_BYTES = 3 * SIDE * SIDE
_MOST_BYTES = 1 << 30


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
        planes = self.pixels[row].reshape(3, SIDE, SIDE)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def set_files(folder: str, name: str | None) -> dict[str, str]:
    """Key -> file or folder that decides the pictures and labels of a set (`core.contracts.Bench.files`)."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError(f"images {place} is no folder: name the folder that holds the set's pictures")
    if name in _CIFAR:
        found = _cifar_files(place, name)
        if found is not None:
            return {"images": str(found[0]), "class_names": str(found[1])}
    return {"images": str(_class_folders(place))}


def read_set(folder: str, name: str | None) -> Labelled:
    """The pictures by which a set is evaluated: CIFAR's test files, or class folders (below `test` or `val` if there
    is one); UserError names the file, and the row where there is one."""
    place = Path(folder).expanduser()
    if name in _CIFAR and (found := _cifar_files(place, name)) is not None:
        return _cifar(*found, name)
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


# ------------------------------------------------------------------------------------------------ CIFAR
_CIFAR = {
    "cifar10": (("cifar-10-batches-py", "test_batch", "batches.meta"),
                ("cifar-10-batches-bin", "test_batch.bin", "batches.meta.txt")),
    "cifar100": (("cifar-100-python", "test", "meta"), ("cifar-100-binary", "test.bin", "fine_label_names.txt")),
}  # fmt: skip
"""Set -> (folder, test file, names' file) of its python and of its binary layout."""

_KEYS = {"cifar10": ("labels", "label_names", 1), "cifar100": ("fine_labels", "fine_label_names", 2)}
"""Set -> keys of labels and names in the python layout, bytes of labels before each picture in the binary one."""


def _cifar_files(place: Path, name: str) -> tuple[Path, Path] | None:
    """The test file and the file of class names, below the folder or in it."""
    for folder, test, names in _CIFAR[name]:
        for where in (place / folder, place):
            if (where / test).is_file() and (where / names).is_file():
                return where / test, where / names
    return None


def _cifar(test: Path, names: Path, name: str) -> Labelled:
    labels_key, names_key, width = _KEYS[name]
    if test.stat().st_size > _MOST_BYTES:
        raise UserError(f"file {test} has more than {_MOST_BYTES:,} bytes: it can't be {name}'s")
    if test.suffix == ".bin":
        raw = np.frombuffer(test.read_bytes(), np.uint8)
        if not len(raw) or len(raw) % (width + _BYTES):
            raise UserError(f"file {test} has {len(raw):,} bytes, no multiple of {width + _BYTES}: get it again")
        records = raw.reshape(-1, width + _BYTES)
        labels, pixels = records[:, width - 1].astype(np.int64), records[:, width:]
        classes = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        document = _plain_pickle(test)
        pixels, labels = _pixels(document.get("data"), test), _labels(document.get(labels_key), labels_key, test)
        given = _plain_pickle(names).get(names_key)
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise UserError(f"file {names}: {names_key!r} is no list of names: get it again")
        classes = given
    if len(labels) != len(pixels):
        raise UserError(f"file {test}: {len(pixels):,} pictures and {len(labels):,} labels: get it again")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(
            f"file {test}: labels from {labels.min()} to {labels.max()}, {names.name} names {len(classes)} classes: "
            "get both again"
        )
    return Labelled(Pictures([str(row) for row in range(len(pixels))], InArray(pixels)), labels, classes)


def _pixels(given: Any, file: Path) -> NDArray[np.uint8]:
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] != _BYTES:
        raise UserError(f"file {file}: 'data' is no uint8 [n, {_BYTES}]: get it again")
    if not len(given):
        raise UserError(f"file {file} holds no pictures: get it again")
    return given


def _labels(given: Any, key: str, file: Path) -> NDArray[np.int64]:
    if not isinstance(given, list) or not all(type(label) is int and 0 <= label < 1 << 31 for label in given):
        raise UserError(f"file {file}: {key!r} is no list of labels: get it again")
    return np.array(given, np.int64)


class _PlainUnpickler(pickle.Unpickler):
    """Plain containers and numpy arrays only; everything else that a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        plain = {"_reconstruct": np.zeros(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in plain:
            return plain[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes into pickles that Python 2 can read
            return lambda text, _: str(text).encode("latin1")
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run")


def _plain_pickle(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            document = _PlainUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes meet
        raise UserError(f"file {file} can't be read as a CIFAR batch ({error}): get it again") from None
    if not isinstance(document, dict):
        raise UserError(f"file {file} holds no batch: get it again")
    return document
