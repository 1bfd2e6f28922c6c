"""Files of features: npy, npz and safetensors of [rows, ...], and TSVs of regions or of views. No pickle is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.core.errors import UserError, nearest

ID_NAMES = ("ids", "id", "image_id", "text_id")
MAX_LINE_BYTES = 1 << 27
_REGION_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
"""Of bottom-up attention's TSVs."""
_VIEW_COLUMNS = ("scanId", "viewpointId", "image_w", "image_h", "vfov", "features")
_VIEWS = 36
_DIGITS = 9
"""Of a count that is believed."""
_BEYOND = 0.01
"""By which a box may leave its picture, in fractions of it: detectors round."""


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


def open_features(path: Path, array: str | None, ids: str | None, *, views: bool = False) -> FeatureFile:
    """Open by suffix. array: its name, where the file has several. ids: name of an array, or a file of lines.

    views: whether a TSV's lines are viewpoints.
    """
    if not path.is_file():
        raise UserError(f"features {path} are not there: name a file")
    if ".tsv" in path.suffixes or path.suffix == ".csv":  # parts of a release are called NAME.tsv.0 and so on
        return ViewTsv(path) if views else RegionTsv(path)
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


class _Tsv:
    """Features a line, float32 in base64 as the last column; lines are found once and decoded when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[str] | None = []
        self.ids_file: Path | None = None
        self._lines: list[tuple[int, int]] = []
        """Offset and number of each row's line."""
        regions, width, offset = [], None, 0
        with open(path, "rb") as file:
            for number in count(1):
                if not (line := file.readline(MAX_LINE_BYTES)):
                    break
                if line.strip():
                    name, values, *_ = self._read(line, number, width)
                    width = values.shape[1]
                    regions.append(len(values))
                    self.ids.append(name)
                    self._lines.append((offset, number))
                offset += len(line)
        if width is None:
            raise UserError(f"{path} is empty: name a TSV of features")
        self.rows = len(self._lines)
        self.ragged = min(regions) != max(regions)
        self.shape: tuple[int, ...] = (max(regions), width)

    def read(self, rows: Sequence[int]) -> Tensor | list[Tensor]:
        """float32 [len(rows), n, d], or a list of [n, d] where their number varies."""
        return self._each(rows, 1)

    def _each(self, rows: Sequence[int], part: int) -> Tensor | list[Tensor]:
        found = []
        with open(self.path, "rb") as file:
            for offset, number in (self._lines[row] for row in rows):
                file.seek(offset)
                said: Any = self._read(file.readline(MAX_LINE_BYTES), number, self.shape[1])[part]
                found.append(torch.from_numpy(said.copy()))
        return found if self.ragged else torch.stack(found)

    def _read(self, line: bytes, number: int, width: int | None) -> tuple[Any, ...]:
        """Id, features [n, d] float32, and what else a line has. width: d, None where it is not known yet."""
        raise NotImplementedError


class RegionTsv(_Tsv):
    """Region features as bottom-up attention released them."""

    def boxes(self, rows: Sequence[int]) -> Tensor | list[Tensor]:
        """As `read`, [regions, 4] each: left, top, right, bottom, in fractions of the picture."""
        return self._each(rows, 2)

    def _read(self, line: bytes, number: int, width: int | None) -> tuple[str, np.ndarray, np.ndarray]:
        """Id, features [regions, d] and boxes [regions, 4], float32. width: d, None where it is not known yet."""
        where = f"{self.path}, line {number}"
        named = _fields(line, _REGION_COLUMNS, where)
        name = _text(named["image_id"], "image_id", where)
        where = f"{where}, image {name[:80]!r}"
        wide, high, regions = (_whole(named[name], name, where) for name in ("image_w", "image_h", "num_boxes"))
        values, corners = (_floats(named[name], name, where) for name in ("features", "boxes"))
        if len(values) % regions or (width is not None and len(values) != regions * width):
            raise UserError(f"{where}: features are {4 * len(values)} bytes, not float32 of {regions} regions"
                            f"{f' x {width}' if width else ''}")  # fmt: skip
        if len(corners) != 4 * regions:
            raise UserError(f"{where}: boxes are {4 * len(corners)} bytes, not four float32 of each of {regions}")
        boxes = corners.reshape(-1, 4) / np.array([wide, high, wide, high], dtype=np.float32)
        if (boxes[:, 2:] < boxes[:, :2]).any() or boxes.min() < -_BEYOND or boxes.max() > 1 + _BEYOND:
            raise UserError(f"{where}: a box is no left, top, right, bottom within {wide} x {high} pixels")
        return name, values.reshape(regions, -1), boxes


class ViewTsv(_Tsv):
    """Features of the 36 views of each viewpoint, as agents of Room-to-Room released them; an id is SCAN_VIEWPOINT."""

    def _read(self, line: bytes, number: int, width: int | None) -> tuple[str, np.ndarray]:
        """Id, features [36, d]."""
        where = f"{self.path}, line {number}"
        named = _fields(line, _VIEW_COLUMNS, where)
        name = "_".join(_text(named[one], one, where) for one in _VIEW_COLUMNS[:2])
        values = _floats(named["features"], "features", f"{where}, viewpoint {name[:80]!r}")
        if len(values) % _VIEWS or (width is not None and len(values) != _VIEWS * width):
            raise UserError(f"{where}: features of {name!r} are {4 * len(values)} bytes, not float32 of {_VIEWS} views"
                            f"{f' x {width}' if width else ''}")  # fmt: skip
        return name, values.reshape(_VIEWS, -1)


def _fields(line: bytes, columns: tuple[str, ...], where: str) -> dict[str, bytes]:
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != len(columns):
        raise UserError(f"{where}: {len(fields)} columns in place of {', '.join(columns)}")
    return dict(zip(columns, fields, strict=True))


def _text(field: bytes, name: str, where: str) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise UserError(f"{where}: {name} is {field[:20]!r}, not UTF-8") from None


def _whole(field: bytes, name: str, where: str) -> int:
    if not field.isdigit() or len(field) > _DIGITS or not int(field):
        raise UserError(f"{where}: {name} is {field[:20]!r}, not a count")
    return int(field)


def _floats(field: bytes, name: str, where: str) -> np.ndarray:
    """float32 of base64."""
    try:
        data = base64.b64decode(field, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"{where}: {name} are not base64: {error}") from None
    if not data or len(data) % 4:
        raise UserError(f"{where}: {name} are {len(data)} bytes, not float32")
    values = np.frombuffer(data, dtype="<f4")
    if not np.isfinite(values).all():
        raise UserError(f"{where}: {name} hold what is no finite number")
    return values
