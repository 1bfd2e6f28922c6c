"""SugarCrepe's items: seven JSON files of a picture's name, its caption and a negative caption, by number.

The numbers are keys of an object and have gaps; the pictures are COCO's val2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmkd_cli.benches.own_tables import InFiles, Pictures, located
from mmkd_cli.benches.pair_items import PairItems, Part, Places
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import caption, inner_file

ITEMS: Mapping[str, int] = {
    "add_att": 692,
    "add_obj": 2062,
    "replace_att": 788,
    "replace_obj": 1652,
    "replace_rel": 1406,
    "swap_att": 666,
    "swap_obj": 245,
}
"""File -> items of the published set."""

GET = (
    f"put SugarCrepe's data/*.json ({', '.join(ITEMS)}; github.com/RAIVNLab/sugar-crepe) into a folder and name it by "
    "--annotations, and COCO's val2017 pictures (images.cocodataset.org/zips/val2017.zip) by --images"
)


def annotation_files(folder: str) -> dict[str, Path]:
    """Name -> file of those of the seven that are there; UserError where none is."""
    place = Path(folder).expanduser()
    found = {name: place / f"{name}.json" for name in ITEMS if (place / f"{name}.json").is_file()}
    if not found:
        raise UserError(f"annotations {place} hold none of SugarCrepe's files: {GET}")
    return found


def image_folders(annotations: str | None, images: str | None) -> list[Path]:
    """Where pictures are looked for; without a name the folder `images` beside the annotations."""
    if images is not None:
        place = Path(images).expanduser()
        if not place.is_dir():
            raise UserError(f"images {place} is no folder: {GET}")
        return [place, place / "val2017"] if (place / "val2017").is_dir() else [place]
    beside = Path(str(annotations)).expanduser() / "images"
    return [beside] if annotations is not None and beside.is_dir() else []


def read(files: Mapping[str, Path], folders: list[Path] | None) -> PairItems:
    """All items, the true caption first; folders None: without pictures. UserError names file, item and field."""
    texts, pictures = Places(), Places()
    parts = {name: _part(file, texts, pictures) for name, file in files.items()}
    names = pictures.values()
    found = None if folders is None else Pictures(names, InFiles(located(names, folders, GET)))
    return PairItems(parts, texts.values(), found)


def _part(file: Path, texts: Places, pictures: Places) -> Part:
    document = fields.read_document(file)
    if not document:
        raise UserError(f"file {file} has no items: {GET}")
    pairs = np.empty((len(document), 2, 2), np.int64)
    images = []
    for number, (key, row) in enumerate(document.items()):
        where = f"file {file}, item {key!r}"
        row = fields.typed(row, dict, where)
        images.append(inner_file(row, "filename", where))
        pairs[number, :, 0] = pictures.of(images[-1])
        pairs[number, :, 1] = [texts.of(caption(row, name, where)) for name in ("caption", "negative_caption")]
    return Part(list(document), pairs, images)
