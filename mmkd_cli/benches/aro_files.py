"""ARO's items: VG-Relation and VG-Attribution (crops of Visual Genome), COCO-Order and Flickr30k-Order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmkd_cli.benches.aro_orders import Orders, Tools
from mmkd_cli.benches.own_tables import Box, InFiles, Pictures, box_of, located
from mmkd_cli.benches.pair_items import PairItems, Part, Places
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import caption, inner_file, json_rows

FILES: Mapping[str, str] = {
    "vg_relation": "visual_genome_relation.json",
    "vg_attribution": "visual_genome_attribution.json",
    "coco_order": "coco_karpathy_test.json",
    "flickr30k_order": "flickr30k_test.json",
}
"""Task -> its file, as the authors' code names it."""

ORDERS = ("coco_order", "flickr30k_order")

GET = (
    f"put ARO's files ({', '.join(FILES.values())}; github.com/mertyg/vision-language-models-are-bows says where they "
    "are) into a folder and name it by --annotations; its folder `images` holds the crops' pictures, `val2014` COCO's, "
    "`flickr30k-images` Flickr30k's; if they lie elsewhere, name the folder that holds these three by --images"
)


def annotation_files(folder: str) -> dict[str, Path]:
    """Task -> file of those that are there; UserError where none is."""
    place = Path(folder).expanduser()
    found = {task: place / name for task, name in FILES.items() if (place / name).is_file()}
    if not found:
        raise UserError(f"annotations {place} hold none of ARO's files: {GET}")
    return found


def image_folders(annotations: str, images: str | None) -> list[Path]:
    """Where pictures are looked for."""
    place = Path(annotations if images is None else images).expanduser()
    if not place.is_dir():
        raise UserError(f"images {place} is no folder: {GET}")
    return [place, place / "images"] if (place / "images").is_dir() else [place]


def read(files: Mapping[str, Path], folders: Sequence[Path] | None, tools: Tools | None) -> PairItems:
    """All items of these tasks, the true caption first; folders None: without pictures.

    tools: for the order tasks. UserError names file, row and field.
    """
    texts, crops = Places(), Places()
    parts = {}
    for task, file in files.items():
        rows = _ordered(file, tools, texts) if task in ORDERS else _cropped(file, task, texts)
        parts[task] = _part(list(rows), crops, file)
    places: list[tuple[str, Box | None]] = crops.values()
    found = None
    if folders is not None:
        names = list(dict.fromkeys(name for name, _ in places))
        there = dict(zip(names, located(names, folders, GET), strict=True))
        labels = [name if box is None else f"{name} {box}" for name, box in places]
        found = Pictures(labels, InFiles([there[name] for name, _ in places], [box for _, box in places]))
    return PairItems(parts, texts.values(), found)


Row = tuple[str, Box | None, list[int], str, str]
"""Picture, crop, places of its captions, group, id."""


def _cropped(file: Path, task: str, texts: Places) -> Iterator[Row]:
    for number, (where, row) in enumerate(json_rows(file)):
        left, top, width, height = (fields.field(row, f"bbox_{side}", int, where) for side in "xywh")
        captions = [texts.of(caption(row, name, where)) for name in ("true_caption", "false_caption")]
        group = _attributes(row, where) if task == "vg_attribution" else caption(row, "relation_name", where)
        box = box_of(left, top, width, height, where)
        yield inner_file(row, "image_path", where), box, captions, group, str(number)


def _attributes(row: Mapping[str, Any], where: str) -> str:
    names = fields.field(dict(row), "attributes", list, where)
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}, field 'attributes': two texts are needed, not {names!r}"[:300])
    return "_".join(names)


def _ordered(file: Path, tools: Tools | None, texts: Places) -> Iterator[Row]:
    assert tools is not None
    orders = Orders(tools)
    for number, (where, row) in enumerate(json_rows(file)):
        image = inner_file(row, "image", where)
        given = fields.field(row, "caption", list, where)
        for place, text in enumerate(given):
            raw = fields.typed(text, str, f"{where}, field 'caption', text {place}")
            yield image, None, [texts.of(one) for one in orders.candidates(raw)], "", f"{number}.{place}"


def _part(rows: Collection[Row], crops: Places, file: Path) -> Part:
    if not rows:
        raise UserError(f"file {file} has no items: {GET}")
    images, boxes, captions, groups, ids = zip(*rows, strict=True)
    text = np.array(captions, np.int64)
    picture = np.array([crops.of(place) for place in zip(images, boxes, strict=True)], np.int64)
    pairs = np.stack([np.broadcast_to(picture[:, None], text.shape), text], axis=2)
    return Part(ids, pairs, images, group=groups if any(groups) else None)
