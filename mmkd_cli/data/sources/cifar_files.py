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
    """The files of `train` or `test`, below the folder or in it; None where they are not there, UserError where some
    of them are."""
    for folder, train, test, names in CIFAR[name]:
        wanted = [test]
        if split == "train":
            wanted = [train.format(number) for number in range(1, _TRAIN_BATCHES + 1)] if "{}" in train else [train]
        for where in (place / folder, place):
            absent = [file for file in wanted if not (where / file).is_file()]
            if absent and len(absent) < len(wanted):
                raise UserError(f"{where / absent[0]} is not there, other files of {split} are: get it again")
            if not absent and (where / names).is_file():
                return CifarFiles(tuple(where / file for file in wanted), where / names)
    return None


def cifar_picture(planes: NDArray[np.uint8]) -> Image.Image:
    """Red, green and blue planes of 32 rows, one after another: uint8 [3072]."""
    return Image.fromarray(np.ascontiguousarray(planes.reshape(3, SIDE, SIDE).transpose(1, 2, 0)))


def read_names(file: Path, name: str) -> list[str]:
    """The classes in the order of their labels."""
    _check_size(file, name)
    if file.suffix == ".txt":
        text = file.read_bytes().decode("utf-8", errors="replace")
        given: Any = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        given = _plain_pickle(file).get(_KEYS[name][1])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given) or not given:
        raise UserError(f"file {file} has no list of names: get it again")
    if len(set(given)) < len(given):
        raise UserError(f"file {file} names a class twice: get it again")
    return given


def read_batch(
    file: Path, name: str, names: Path, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:  # fmt: skip
    """Pictures uint8 [n, 3072] and labels int64 [n]; UserError names what is wrong with the file."""
    labels_key, _, width = _KEYS[name]
    _check_size(file, name)
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


def _check_size(file: Path, name: str) -> None:
    if file.stat().st_size > _MOST_BYTES:
        raise UserError(f"file {file} has more than {_MOST_BYTES:,} bytes: it can't be {name}'s")


def _pixels(stored: Any, file: Path) -> NDArray[np.uint8]:
    given = getattr(stored, "values", None)
    if not isinstance(given, np.ndarray) or given.ndim != 2 or given.shape[1] != _BYTES:
        raise UserError(f"file {file}: 'data' is no uint8 [n, {_BYTES}]: get it again")
    if not len(given):
        raise UserError(f"file {file} holds no pictures: get it again")
    return given


def _labels(given: Any, key: str, file: Path) -> NDArray[np.int64]:
    if not isinstance(given, list) or not all(type(label) is int and 0 <= label < 1 << 31 for label in given):
        raise UserError(f"file {file}: {key!r} is no list of labels: get it again")
    return np.array(given, np.int64)


class _Bytes:
    """Stands for numpy's dtype, of bytes alone; a pickle's further words about it are not heard."""

    def __init__(self, code: str, *_: Any) -> None:
        if code != "u1":
            raise pickle.UnpicklingError(f"it has an array of {code!r}, not of bytes")

    def __setstate__(self, state: Any) -> None: ...


class _Array:
    """Stands for a numpy array: numpy itself would take a pickle's word for what its bytes are."""

    values: NDArray[np.uint8] | None = None

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, columns_first, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(kind, _Bytes) or columns_first or not isinstance(data, bytes):
            raise pickle.UnpicklingError("it has an array of another layout")
        self.values = np.frombuffer(data, np.uint8).reshape(shape)


def _encoded(text: Any, _: Any) -> bytes:
    """How Python 3 writes bytes into pickles that Python 2 can read."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("it encodes what is no text")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """Plain containers and arrays of bytes only; everything else that a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        plain = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Bytes}
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in plain:
            return plain[name]
        if (module, name) == ("_codecs", "encode"):
            return _encoded
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
