"""Pictures that lie in folders as files: where each is, which are missing, and the listing that identifies them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.tables import image_features, rows_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class PictureFiles:
    """A split's pictures.

    columns: image_id, file (the path, relative to one of `folders`, or absolute), source (as `images` shows it),
    label where there are classes, domain where there are several. sizes: bytes, -1 where there is no such file.
    place: which of `folders` has it.
    """

    split: str
    columns: pa.Table
    folders: tuple[Path, ...]
    sizes: np.ndarray
    place: np.ndarray
    label_names: tuple[str, ...] = ()

    def table(self) -> SourceTable:
        """`images` of the split; a picture is its path."""
        rows = self.columns.num_rows
        features = image_features(self.label_names, "domain" in self.columns.column_names)
        return SourceTable("images", self.split, rows, features, self._read)

    def _read(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows_of(self.columns, first, last), first):
            row["image"] = str(self.folders[self.place[number]] / row.pop("file"))
            yield row

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are not there."""
        for number in np.flatnonzero(self.sizes < 0).tolist():
            yield str(self.folders[0] / self.columns.column("file")[number].as_py())


def locate(
    split: str, columns: Mapping[str, Any], folders: Sequence[Path], label_names: Sequence[str] = ()
) -> PictureFiles:
    """Look for each picture (columns as in PictureFiles) in the folders, the first that has it."""
    import pyarrow as pa

    files = pa.table(dict(columns))
    sizes = np.full(files.num_rows, -1, dtype=np.int64)
    place = np.zeros(files.num_rows, dtype=np.int8)
    number = 0
    for chunk in files.column("file").chunks:
        for name in chunk:
            for which, folder in enumerate(folders):
                size = _size(folder / name.as_py())
                if size >= 0:
                    sizes[number], place[number] = size, which
                    break
            number += 1
    return PictureFiles(split, files, tuple(folders), sizes, place, tuple(label_names))


def locate_any(split: str, ids: Sequence[str], names: Sequence[Sequence[str]], folder: Path) -> PictureFiles:
    """Pictures by the first of their possible names [n] (relative to the folder) that is there."""
    import pyarrow as pa

    files = [next((name for name in own if _size(folder / name) >= 0), own[0]) for own in names]
    columns = {"image_id": list(ids), "file": files, "source": files}
    return locate(split, {name: pa.array(values, pa.string()) for name, values in columns.items()}, [folder])


def _size(path: Path) -> int:
    """Bytes of a regular file, -1 if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def listing(pictures: Iterable[PictureFiles]) -> str:
    """SHA-256 of splits, names and sizes of pictures, in row order; no absolute paths."""
    digest = hashlib.sha256()
    for files in pictures:
        for first in range(0, files.columns.num_rows, 10_000):
            names = files.columns.column("source").slice(first, 10_000).to_pylist()
            lines = [f"{files.split}\0{name}\0{size}\n" for name, size in zip(names, files.sizes[first:], strict=False)]
            digest.update("".join(lines).encode())
    return digest.hexdigest()


def without_suffix(name: str) -> str:
    """A path without its file's suffix: `a/b.jpg` to `a/b`."""
    return os.path.splitext(name)[0]


def folder_of(path: str, flag: str) -> Path:
    """A folder that is there, else UserError."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"{flag} {path!r} is no folder: name the folder that holds the pictures")
    return folder


def file_of(path: str, flag: str) -> Path:
    """A file that is there, else UserError."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{flag} {path!r} is no file: name the annotation file")
    return file
