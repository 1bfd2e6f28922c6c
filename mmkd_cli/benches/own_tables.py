"""Pictures and texts that a bench reads from its own files, as tables that `data.batches` reads like prepared ones."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import MAX_PIXELS, PictureError, decode

if TYPE_CHECKING:
    import pyarrow as pa

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, as PIL's crop takes it; what lies outside of the picture is black."""

MAX_MEMBER_BYTES = 1 << 30
"""Of a picture inside an archive, unpacked."""


@dataclass(frozen=True)
class Pictures:
    """Column `image_id` and `image`, each read when it is asked for. read(row): an RGB picture; picklable."""

    ids: Sequence[str]
    read: Callable[[int], Image.Image]

    def __len__(self) -> int:
        return len(self.ids)

    def with_format(self, _: str) -> Pictures:
        return self

    def picture(self, row: int) -> Image.Image:
        """A picture; UserError names it where it can't be used."""
        try:
            return self.read(row)
        except (PictureError, OSError) as error:
            raise UserError(f"picture {self.ids[row]} can't be read: {error}") from None

    def __getitem__(self, rows: Sequence[int]) -> pa.Table:
        import pyarrow as pa

        cells = [{"bytes": _ppm(self.picture(row))} for row in rows]
        kind = pa.struct([("bytes", pa.binary())])
        return pa.table({"image_id": [self.ids[row] for row in rows], "image": pa.array(cells, kind)})


def _ppm(image: Image.Image) -> bytes:
    """The pixels as a binary PPM: lossless, and opened again at the speed of a copy."""
    return b"P6 %d %d 255\n" % image.size + image.tobytes()


@dataclass(frozen=True)
class Texts:
    """Columns `text_id` (its row) and `text`."""

    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def with_format(self, _: str) -> Texts:
        return self

    def __getitem__(self, rows: Sequence[int]) -> pa.Table:
        import pyarrow as pa

        return pa.table({"text_id": [str(row) for row in rows], "text": [self.texts[row] for row in rows]})


@dataclass(frozen=True)
class OwnData:
    """What stands in for prepared data where a bench reads its own files: one split, nothing rejected."""

    images: Any
    texts: Texts

    def table(self, name: str, split: str) -> Any:
        return self.images if name == "images" else self.texts

    def rejected(self, split: str, table: str) -> NDArray[np.int64]:
        return np.zeros(0, np.int64)


# ------------------------------------------------------------------------------------------------ where pictures lie
@dataclass(frozen=True)
class InFiles:
    """Pictures that are files, of some a part."""

    files: Sequence[Path]
    boxes: Sequence[Box | None] = ()

    def __call__(self, row: int) -> Image.Image:
        image = decode(self.files[row].read_bytes())
        box = self.boxes[row] if self.boxes else None
        return image if box is None else image.crop(box)


@dataclass(frozen=True)
class InZip:
    """Pictures that are members of a zip archive, read by stream: nothing is unpacked onto the disk."""

    archive: Path
    members: Sequence[str]

    def __call__(self, row: int) -> Image.Image:
        with _damage(self.archive):
            member = _archive(self.archive).getinfo(self.members[row])
            if member.file_size > MAX_MEMBER_BYTES:
                raise PictureError(f"it has {member.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}")
            data = _archive(self.archive).read(member)
        return decode(data)


@dataclass(frozen=True)
class InParquet:
    """Pictures that are cells {"bytes"} of parquet files; a row group is read at a time. cells: (file, row, column)."""

    cells: Sequence[tuple[Path, int, str]]

    def __call__(self, row: int) -> Image.Image:
        file, place, column = self.cells[row]
        with _damage(file):
            group, first = _group_of(file, place)
            cell = _row_group(file, group).column(column)[place - first].as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else None
        if not isinstance(data, bytes):
            raise PictureError(f"column {column!r} of row {place} of {file} holds no bytes")
        return decode(data)


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Whatever the reader of a damaged file meets (zipfile and pyarrow raise many things) is a PictureError."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PictureError(f"{file} is damaged ({first})") from None


@lru_cache(maxsize=4)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _group_of(file: Path, row: int) -> tuple[int, int]:
    """The row group that holds a row, and that group's first row."""
    first = 0
    for group, rows in enumerate(_group_rows(file)):
        if row < first + rows:
            return group, first
        first += rows
    raise PictureError(f"{file} has no row {row}")


@lru_cache(maxsize=64)
def _group_rows(file: Path) -> tuple[int, ...]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


@lru_cache(maxsize=2)
def _row_group(file: Path, group: int) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(file).read_row_group(group)


# ------------------------------------------------------------------------------------------------ finding them
def located(names: Sequence[str], folders: Sequence[Path], advice: str) -> list[Path]:
    """The file of each name, in the first folder that has it by its path or its last part.

    UserError counts those that are missing and says what to do (`advice`).
    """
    found: list[Path] = []
    missing: list[str] = []
    for name in names:
        places = [folder / part for folder in folders for part in (name, name.rpartition("/")[2])]
        there = next((place for place in places if place.is_file()), None)
        if there is None:
            missing.append(name)
        else:
            found.append(there)
    if missing:
        where = f"in {' or '.join(map(str, folders))}" if folders else "there"
        raise UserError(
            f"{len(missing):,} of {len(names):,} pictures are not {where}, the first is {missing[0]!r}: {advice}"
        )
    return found


def box_of(left: int, top: int, width: int, height: int, where: str) -> Box:
    """A box to crop to; UserError where it holds no pixel, or more than a picture may have."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS or max(abs(left), abs(top)) > MAX_PIXELS:
        raise UserError(f"{where}: the box {left}, {top}, {width} x {height} can't be cropped to")
    return left, top, left + width, top + height
