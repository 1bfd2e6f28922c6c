"""CIFAR's files (Krizhevsky 2009): python and binary layouts of CIFAR-10 and, with its fine labels, of CIFAR-100."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmkd_cli.core.errors import UserError

SIDE = 32
"""Of CIFAR's pictures, in pixels."""

CIFAR = {
    "cifar10": (
        ("cifar-10-batches-py", "data_batch_{}", "test_batch", "batches.meta"),
        ("cifar-10-batches-bin", "data_batch_{}.bin", "test_batch.bin", "batches.meta.txt"),
    ),
    "cifar100": (
        ("cifar-100-python", "train", "test", "meta"),
        ("cifar-100-binary", "train.bin", "test.bin", "fine_label_names.txt"),
    ),
}
"""Set -> (folder, train files, test file, names' file) of its python and of its binary layout."""

_KEYS = {"cifar10": ("labels", "label_names", 1), "cifar100": ("fine_labels", "fine_label_names", 2)}
"""Set -> keys of labels and names in the python layout, bytes of labels before each picture in the binary one."""
_TRAIN_BATCHES = 5
"""Of CIFAR-10."""
_BYTES = 3 * SIDE * SIDE
_MOST_BYTES = 1 << 30


class CifarFiles(NamedTuple):
    """A split's files in their order, and the file of class names."""

    batches: tuple[Path, ...]
    names: Path


def cifar_files(place: Path, name: str, split: str) -> CifarFiles | None:
    """The files of `train` or `test`, below the folder or in it; None where one of them is not there."""
    for folder, train, test, names in CIFAR[name]:
        wanted = [test]
        if split == "train":
            wanted = [train.format(number) for number in range(1, _TRAIN_BATCHES + 1)] if "{}" in train else [train]
        for where in (place / folder, place):
            if all((where / file).is_file() for file in (*wanted, names)):
                return CifarFiles(tuple(where / file for file in wanted), where / names)
    return None


def cifar_picture(planes: NDArray[np.uint8]) -> Image.Image:
    """Red, green and blue planes of 32 rows, one after another: uint8 [3072]."""
    return Image.fromarray(np.ascontiguousarray(planes.reshape(3, SIDE, SIDE).transpose(1, 2, 0)))


def read_names(file: Path, name: str) -> list[str]:
    """The classes in the order of their labels."""
    if file.suffix == ".txt":
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    key = _KEYS[name][1]
    given = _plain_pickle(file).get(key)
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise UserError(f"file {file}: {key!r} is no list of names: get it again")
    return given


def read_batch(
    file: Path, name: str, names: Path, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:  # fmt: skip
    """Pictures uint8 [n, 3072] and labels int64 [n]; UserError names what is wrong with the file."""
    labels_key, _, width = _KEYS[name]
    if file.stat().st_size > _MOST_BYTES:
        raise UserError(f"file {file} has more than {_MOST_BYTES:,} bytes: it can't be {name}'s")
    if file.suffix == ".bin":
        raw = np.frombuffer(file.read_bytes(), np.uint8)
        if not len(raw) or len(raw) % (width + _BYTES):
            raise UserError(f"file {file} has {len(raw):,} bytes, no multiple of {width + _BYTES}: get it again")
        records = raw.reshape(-1, width + _BYTES)
        labels, pixels = records[:, width - 1].astype(np.int64), records[:, width:]
    else:
        document = _plain_pickle(file)
        pixels, labels = _pixels(document.get("data"), file), _labels(document.get(labels_key), labels_key, file)
    if len(labels) != len(pixels):
        raise UserError(f"file {file}: {len(pixels):,} pictures and {len(labels):,} labels: get it again")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(
            f"file {file}: labels from {labels.min()} to {labels.max()}, {names.name} names {len(classes)} classes: "
            "get both again"
        )
    return pixels, labels


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
