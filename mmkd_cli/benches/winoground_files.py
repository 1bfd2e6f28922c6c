"""Winoground's items: the gated data set's own layout, JSON of captions alone, or parquet.

The data set (facebook/winoground) holds data/examples.jsonl and data/images.zip; its converted branch holds parquet.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmkd_cli.benches.own_tables import InFiles, InParquet, InZip, Pictures, located
from mmkd_cli.benches.pair_items import PairItems, Part, Places
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import caption, json_rows

GET = (
    "Winoground is gated: agree to its terms at huggingface.co/datasets/facebook/winoground, put its "
    "data/examples.jsonl and data/images.zip (or its parquet files) into a folder, and name that by --annotations"
)
TAGS = ("collapsed_tag", "tag", "secondary_tag")
PARQUET_COLUMNS = ("id", "caption_0", "caption_1")
SUFFIXES = ("", ".png", ".jpg", ".jpeg")

_INNER = ("examples.jsonl", "data/examples.jsonl", "data.json")
_IMAGES = ("images.zip", "images", "data/images.zip", "data/images")


@dataclass(frozen=True)
class WinogroundFiles:
    """Where they are. images: an archive or a folder, None where there is none (or the parquet files hold them)."""

    annotations: tuple[Path, ...]
    images: Path | None

    @classmethod
    def find(cls, annotations: str, images: str | None) -> WinogroundFiles:
        """annotations: a file, or a folder that holds one. UserError says what to get where it is not there."""
        place = Path(annotations).expanduser()
        found = _annotation_files(place)
        if not found:
            raise UserError(f"annotations {place} {'hold' if place.is_dir() else 'are'} no Winoground: {GET}")
        if images is not None and not Path(images).expanduser().exists():
            raise UserError(f"images {images} are not there: {GET}")
        folder = place if place.is_dir() else place.parent
        beside = next((folder / name for name in _IMAGES if (folder / name).exists()), None)
        return cls(found, beside if images is None else Path(images).expanduser())

    def by_key(self) -> dict[str, str]:
        """Key -> file or folder that decides the scores (`core.contracts.Bench.files`)."""
        names = [f"annotations.{number}" for number in range(len(self.annotations))]
        keys = ["annotations"] if len(self.annotations) == 1 else names
        found = {key: str(path) for key, path in zip(keys, self.annotations, strict=True)}
        return {**found, **({"images": str(self.images)} if self.images else {})}

    def read(self, *, with_pictures: bool) -> PairItems:
        """All items; pairs in the order c0 i0, c0 i1, c1 i0, c1 i1. UserError names file, row and field."""
        parquet = self.annotations[0].suffix == ".parquet"
        rows = list(_parquet_rows(self.annotations) if parquet else json_rows(self.annotations[0]))
        if not rows:
            raise UserError(f"file {self.annotations[0]} has no items: {GET}")
        texts, ids = Places(), Places()
        captions = np.empty((len(rows), 2), np.int64)
        notes = []
        for number, (where, row) in enumerate(rows):
            identifier = str(fields.field(row, "id", int, where))
            if ids.of(identifier) != number:
                raise UserError(f"{where}, field 'id': {identifier} names an earlier item, too: mend the file")
            captions[number] = [texts.of(caption(row, f"caption_{k}", where)) for k in (0, 1)]
            notes.append(_tags(row, where))
        first = 2 * np.arange(len(rows))
        pairs = np.stack([np.stack([first + i, captions[:, c]], axis=1) for c in (0, 1) for i in (0, 1)], axis=1)
        names = [f"ex_{identifier}" for identifier in ids.values()]
        pictures = self._pictures(rows, ids.values()) if with_pictures else None
        return PairItems({"": Part(ids.values(), pairs, names, notes=notes)}, texts.values(), pictures)

    def _pictures(self, rows: Sequence[tuple[str, dict[str, Any]]], ids: Sequence[str]) -> Pictures:
        labels = [f"{k} of Winoground's item {identifier}" for identifier in ids for k in (0, 1)]
        if self.annotations[0].suffix == ".parquet":
            cells = [(row["file"], row["row"], f"image_{k}") for _, row in rows for k in (0, 1)]
            return Pictures(labels, InParquet(cells))
        names = [_picture_name(row, k, where) for where, row in rows for k in (0, 1)]
        if self.images is None:
            raise UserError(f"there are no pictures beside {self.annotations[0]}: name them by --images; {GET}")
        if self.images.is_dir():
            there = {path.name for path in self.images.iterdir()}
            files = [next((n + s for s in SUFFIXES if n + s in there), n) for n in names]
            return Pictures(labels, InFiles(located(files, [self.images], GET)))
        return Pictures(labels, InZip(self.images, _members(self.images, names)))


def _annotation_files(place: Path) -> tuple[Path, ...]:
    if place.is_file():
        return (place,)
    for name in _INNER:
        if (place / name).is_file():
            return (place / name,)
    return tuple(sorted(place.rglob("*.parquet"))) if place.is_dir() else ()


def _picture_name(row: Mapping[str, Any], k: int, where: str) -> str:
    """The picture's file, with or without its suffix; data.json of captions alone has no such field."""
    if f"image_{k}" not in row:
        return f"ex_{row['id']}_img_{k}"
    name = fields.typed(row[f"image_{k}"], str, f"{where}, field 'image_{k}'")
    return fields.inner_path(name, f"{where}, field 'image_{k}'").rpartition("/")[2]


def _members(archive: Path, names: Sequence[str]) -> list[str]:
    """The member of each name, whatever folder of the archive it lies in."""
    try:
        with zipfile.ZipFile(archive) as opened:
            there = {member.rpartition("/")[2]: member for member in opened.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"images {archive} can't be read as a zip archive ({error}): {GET}") from None
    found = [next((there[n + s] for s in SUFFIXES if n + s in there), None) for n in names]
    missing = [name for name, member in zip(names, found, strict=True) if member is None]
    if missing:
        raise UserError(
            f"{len(missing):,} of {len(names):,} pictures are not in {archive}, the first is {missing[0]!r}: {GET}"
        )
    return [member for member in found if member is not None]


def _tags(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tags that the row has; they are optional."""
    found: dict[str, Any] = {
        name: fields.typed(row[name], str, f"{where}, field {name!r}") for name in TAGS if row.get(name) is not None
    }
    if row.get("num_main_preds") is not None:
        found["num_main_preds"] = fields.typed(row["num_main_preds"], int, f"{where}, field 'num_main_preds'")
    return found


def _parquet_rows(files: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All columns but the pictures', and where the row lies: `file`, `row`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            names = pq.read_schema(file).names
            if missing := [name for name in (*PARQUET_COLUMNS, "image_0", "image_1") if name not in names]:
                raise UserError(f"file {file} has no column {missing[0]!r}, it has {fields.listed(names)}: {GET}")
            wanted = [name for name in (*PARQUET_COLUMNS, *TAGS, "num_main_preds") if name in names]
            rows = pq.read_table(file, columns=wanted).to_pylist()
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"file {file} can't be read as parquet ({first}): {GET}") from None
        for number, row in enumerate(rows):
            yield f"file {file}, row {number}", {**row, "file": file, "row": number}
