"""Ready embeddings from a file: an npz without pickles, or safetensors. What does not fit is refused in one line."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.core.errors import UserError

Arrays = dict[str, NDArray[np.generic]]


def read_embeddings(path: Path) -> Arrays:
    """All arrays of the file by name; floats of half precision become float32."""
    if not path.is_file():
        raise UserError(f"embeddings {path} is not a file: give an .npz or .safetensors")
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"
    arrays = _read_npz(path) if is_zip else _read_safetensors(path)
    return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in arrays.items()}


def float_array(arrays: Mapping[str, NDArray[np.generic]], name: str, axes: str, layout: str) -> NDArray[np.floating]:
    """The finite float array `name` with the axes named, such as "n d"; UserError says what is wrong with it.

    layout: all arrays that the bench reads, in words.
    """
    array = _of(arrays, name, layout)
    wanted = axes.split()
    if array.ndim != len(wanted):
        raise UserError(
            f"embeddings: {name!r} has shape {list(array.shape)}: give [{', '.join(wanted)}] ({len(wanted)} axes)"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"embeddings: {name!r} is {array.dtype}: give float32, float64 or float16")
    if array.size == 0:
        raise UserError(f"embeddings: {name!r} of shape {list(array.shape)} is empty: give at least one row")
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"embeddings: {name!r} holds NaN or infinite values in {bad.sum()} rows, the first is row "
            f"{int(bad.argmax())} (from 0): make them again"
        )
    return array


def integer_array(arrays: Mapping[str, NDArray[np.generic]], name: str, rows: int, layout: str) -> NDArray[np.int64]:
    """The integer array `name` [rows]; UserError says what is wrong with it. layout: as in `float_array`."""
    array = _of(arrays, name, layout)
    if array.shape != (rows,) or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"embeddings: {name!r} is {array.dtype} {list(array.shape)}: give integers [{rows}]")
    return array.astype(np.int64)


def _of(arrays: Mapping[str, NDArray[np.generic]], name: str, layout: str) -> NDArray[np.generic]:
    if name not in arrays:
        there = ", ".join(map(repr, arrays)) or "none"
        raise UserError(f"embeddings have no {name!r}, their arrays are {there}: give {layout}")
    return arrays[name]


def _read_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"embeddings {path} hold pickled objects, which can run code: save plain arrays (np.savez)"
            ) from None
        raise _unreadable(path, str(error)) from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError) as error:
        raise _unreadable(path, str(error)) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a member that is no .npy comes as bytes
            raise _unreadable(path, f"its member {name!r} is no array")
    return arrays


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"embeddings {path} cannot be read as npz ({why}): write the arrays again by np.savez")


def _read_safetensors(path: Path) -> Arrays:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"embeddings {path} are neither npz nor safetensors ({error}): write the arrays by np.savez or "
            "safetensors' save_file"
        ) from None
    return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in tensors.items()}
