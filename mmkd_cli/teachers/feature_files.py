"""Files of features: npy, npz and safetensors of [rows, ...], and TSVs of region features. No pickle is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.core.errors import UserError, nearest

ID_NAMES = ("ids", "id", "image_id", "text_id")
MAX_LINE_BYTES = 1 << 27
_ID, _BOXES, _FEATURES, _COLUMNS = 0, 3, 5, 6
"""Columns of bottom-up attention's TSVs: image_id, image_w, image_h, num_boxes, boxes, features."""


class FeatureFile(Protocol):
    """An opened file. shape: of one row; ragged: its first axis varies, shape[0] is the bound. ids: one a row."""

    ragged: bool
    ids: list[str] | None
    ids_file: Path | None

    @property
    def rows(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, rows: Sequence[int]) -> Tensor | list[Tensor]: ...


def open_features(path: Path, array: str | None, ids: str | None) -> FeatureFile:
    """Open by suffix. array: its name, where the file has several. ids: name of an array, or a file of lines."""
    if not path.is_file():
        raise UserError(f"features {path} are not there: name a file")
    if path.suffix in (".tsv", ".csv"):
        return RegionTsv(path)
    if path.suffix == ".npy":
        return _array_file(path, {"": _load_numpy(path)}, None, ids)
    if path.suffix == ".npz":
        with _load_numpy(path) as content:
            arrays = {name: _member(path, content, name) for name in content.files}
        return _array_file(path, arrays, array, ids)
    if path.suffix == ".safetensors":
        return _array_file(path, _load_safetensors(path), array, ids)
    raise UserError(f"features {path}: {path.suffix or 'no suffix'} is not one of .npy, .npz, .safetensors, .tsv")


@dataclass
class ArrayFile:
    """[rows, ...] numbers in one array."""

    path: Path
    values: Any
    ids: list[str] | None
    ids_file: Path | None
    ragged: bool = False

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    def read(self, rows: Sequence[int]) -> Tensor:
        """float32 [len(rows), ...]."""
        if isinstance(self.values, Tensor):
            return self.values[torch.tensor(rows, dtype=torch.int64)].float()
        return torch.from_numpy(np.asarray(self.values[np.asarray(rows, dtype=np.int64)], dtype=np.float32))


def _array_file(path: Path, arrays: dict[str, Any], array: str | None, ids: str | None) -> ArrayFile:
    id_name = ids if ids in arrays else None if ids else next((name for name in ID_NAMES if name in arrays), None)
    candidates = [name for name, value in arrays.items() if name != id_name and value.ndim >= 2]
    if array is None and len(candidates) != 1:
        raise UserError(
            f"{path} holds {len(candidates)} arrays of features ({', '.join(sorted(candidates)) or 'none'}): name one "
            "by --set teacher.array=NAME"
        )
    chosen = array if array is not None else candidates[0]
    if chosen not in arrays:
        raise UserError(f"{path} holds no array {chosen!r}{nearest(chosen, candidates)}")
    values = arrays[chosen]
    numeric = values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"
    if values.ndim < 2 or not numeric or 0 in values.shape:
        raise UserError(f"{path}: {chosen or 'it'} is {values.dtype} {list(values.shape)}, not floats [rows, ...]")
    ids_file = Path(ids) if ids and id_name is None else None
    names = _ids_of_file(ids_file) if ids_file else _ids_of_array(path, id_name, arrays) if id_name else None
    if names is not None and len(names) != len(values):
        raise UserError(f"{path} has {len(values)} rows and {len(names)} ids: give each row its id")
    return ArrayFile(path, values, names, ids_file)


def _ids_of_array(path: Path, name: str, arrays: dict[str, Any]) -> list[str]:
    value = arrays[name]
    value = value.numpy() if isinstance(value, Tensor) else value
    if value.ndim != 1 or value.dtype.kind not in "iuUS":
        raise UserError(f"{path}: ids {name!r} are {value.dtype} {list(value.shape)}, not numbers or texts [rows]")
    return [item.decode() if isinstance(item, bytes) else str(item) for item in value.tolist()]


def _ids_of_file(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"teacher.ids={path} is neither an array of the file nor a text file: write an id a line")
    return path.read_text(encoding="utf-8").splitlines()


def _load_numpy(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is no {path.suffix} file without pickles, or is damaged: {error}") from None


def _member(path: Path, content: Any, name: str) -> Any:
    try:
        return content[name]
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: {name!r} does not load without pickles: {error}") from None


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is no safetensors file, or is damaged: {error}") from None


class RegionTsv:
    """Region features as bottom-up attention released them; lines are found once and decoded when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[str] | None = []
        self.ids_file: Path | None = None
        self._offsets: list[int] = []
        boxes, width = [], None
        with open(path, "rb") as file:
            offset = 0
            while line := file.readline(MAX_LINE_BYTES):
                if line.strip():
                    fields = self._split(line)
                    values = self._values(fields, _count(fields[_BOXES], path, len(self._offsets)), width)
                    width = values.shape[1]
                    boxes.append(len(values))
                    self.ids.append(fields[_ID].decode())
                    self._offsets.append(offset)
                offset += len(line)
        if width is None:
            raise UserError(f"{path} is empty: name a TSV of region features")
        self.rows = len(self._offsets)
        self.ragged = min(boxes) != max(boxes)
        self.shape: tuple[int, ...] = (max(boxes), width)

    def read(self, rows: Sequence[int]) -> Tensor | list[Tensor]:
        """float32 [len(rows), regions, d], or a list of [regions, d] where their number varies."""
        found = []
        with open(self.path, "rb") as file:
            for row in rows:
                file.seek(self._offsets[row])
                fields = self._split(file.readline(MAX_LINE_BYTES))
                values = self._values(fields, _count(fields[_BOXES], self.path, row), self.shape[1])
                found.append(torch.from_numpy(values.copy()))
        return found if self.ragged else torch.stack(found)

    def _split(self, line: bytes) -> list[bytes]:
        fields = line.rstrip(b"\r\n").split(b"\t")
        if len(fields) != _COLUMNS:
            raise UserError(
                f"{self.path}, line {len(self._offsets) + 1}: {len(fields)} columns in place of image_id, image_w, "
                "image_h, num_boxes, boxes, features"
            )
        return fields

    def _values(self, fields: list[bytes], boxes: int, width: int | None) -> np.ndarray:
        try:
            data = base64.b64decode(fields[_FEATURES], validate=True)
        except (binascii.Error, ValueError) as error:
            raise UserError(f"{self.path}: features of {fields[_ID].decode()!r} are not base64: {error}") from None
        if boxes < 1 or len(data) % (4 * boxes) or (width is not None and len(data) != 4 * boxes * width):
            raise UserError(
                f"{self.path}: features of {fields[_ID].decode()!r} are {len(data)} bytes, not float32 of {boxes} "
                f"regions{f' x {width}' if width else ''}"
            )
        return np.frombuffer(data, dtype="<f4").reshape(boxes, -1)


def _count(field: bytes, path: Path, row: int) -> int:
    if not field.isdigit():
        raise UserError(f"{path}, line {row + 1}: the number of boxes is {field[:20]!r}, not a count")
    return int(field)
