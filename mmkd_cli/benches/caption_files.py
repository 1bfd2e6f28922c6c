"""Reference captions in their official files: COCO's and nocaps' layout, and Karpathy's.

Official: {"images": [{"id", "file_name", "domain"?}], "annotations": [{"image_id", "caption"}]}.
Karpathy's: {"images": [{"filename", "split", "sentences": [{"raw"}], "filepath"?, "cocoid"?}]}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.picture_files import without_suffix

LAYOUTS = "COCO's captions_*.json, or Karpathy's dataset_*.json"


@dataclass(frozen=True)
class CaptionItems:
    """ids [n], unique. references [n]: at least one each. files [n]: the pictures', relative. domains [n]: or "".

    image_rows: of prepared data, the pictures' rows; skipped: ids of its pictures that are no items.
    """

    ids: Sequence[str]
    references: Sequence[Sequence[str]]
    files: Sequence[str]
    domains: Sequence[str]
    image_rows: Sequence[int] = ()
    skipped: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)


def read_captions(path: Path, split: str) -> CaptionItems:
    """The pictures of a file and their captions, in its order. split: of Karpathy's layout, the one that is scored."""
    document = fields.read_document(path)
    images = fields.field(document, "images", list, f"file {path}")
    items = _official(path, document, images) if "annotations" in document else _karpathy(path, images, split)
    if doubled := [one for one, times in Counter(items.ids).items() if times > 1]:
        raise UserError(f"file {path}: two images have the id {doubled[0]!r}")
    for one, captions in zip(items.ids, items.references, strict=True):
        if not captions:
            raise UserError(f"file {path}: image {one!r} has no caption to be compared with")
    if not items.ids:
        raise UserError(f"file {path}: there are no images: give {LAYOUTS}")
    return items


def _official(path: Path, document: dict[str, Any], images: list[Any]) -> CaptionItems:
    ids, files, domains = [], [], []
    for number, value in enumerate(images):
        where = f"file {path}, images[{number}]"
        image = fields.typed(value, dict, where)
        ids.append(str(fields.field(image, "id", int, where)))
        files.append(fields.inner_path(fields.field(image, "file_name", str, where), where))
        domains.append(fields.field(image, "domain", str, where) if "domain" in image else "")
    captions: dict[str, list[str]] = {one: [] for one in ids}
    for number, value in enumerate(fields.field(document, "annotations", list, f"file {path}")):
        where = f"file {path}, annotations[{number}]"
        annotation = fields.typed(value, dict, where)
        one = str(fields.field(annotation, "image_id", int, where))
        if one not in captions:
            raise UserError(f"{where}, field 'image_id': no image of the file has the id {one}")
        captions[one].append(fields.field(annotation, "caption", str, where))
    return CaptionItems(ids, [captions[one] for one in ids], files, domains)


def _karpathy(path: Path, images: list[Any], split: str) -> CaptionItems:
    ids, files, references, known = [], [], [], set()
    for number, value in enumerate(images):
        where = f"file {path}, images[{number}]"
        image = fields.typed(value, dict, where)
        known.add(fields.field(image, "split", str, where))
        if image["split"] != split:
            continue
        file = fields.inner_path(fields.field(image, "filename", str, where), where)
        if "filepath" in image:
            file = fields.inner_path(f"{fields.field(image, 'filepath', str, where)}/{file}", where)
        ids.append(str(fields.field(image, "cocoid", int, where)) if "cocoid" in image else without_suffix(file))
        files.append(file)
        sentences = enumerate(fields.field(image, "sentences", list, where))
        references.append(
            [
                fields.field(fields.typed(sentence, dict, at), "raw", str, at)
                for at, sentence in ((f"{where}, sentences[{place}]", sentence) for place, sentence in sentences)
            ]
        )
    if split not in known:
        raise UserError(f"--split {split!r} is no split of file {path}{nearest(split, known)}")
    return CaptionItems(ids, references, files, [""] * len(ids))
