"""nocaps in `datasets`, as hubs have it: a row a picture, with its captions.

Columns: image, image_id, image_domain (may be left out), annotations_captions (a list of texts; may be left out, empty
or None), annotations_ids (the captions' ids; without them IMAGE#NUMBER).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields, hub
from mmkd_cli.data.tables import image_features, text_table

if TYPE_CHECKING:
    import datasets

    from mmkd_cli.data.sources.nocaps import NocapsConfig

_DOMAIN, _CAPTIONS, _IDS = "image_domain", "annotations_captions", "annotations_ids"


class NocapsDatasets:
    """Pictures, read from the datasets' own files when they are written, and captions, which are held in memory."""

    def __init__(self, config: NocapsConfig) -> None:
        self._name, self._found = config.annotations, hub.open_datasets(config.annotations)
        self._tables = [
            table
            for split, part in self._found.items()
            for table in _split(split, part, config.annotations, config.limit)
        ]

    def missing(self) -> Iterator[str]:
        """Nothing is known to be missing before it is read."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files."""
        return {"datasets": hub.identity(self._name, self._found, memory)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` of each split, and `texts` where it has captions."""
        return self._tables


def _split(split: str, part: datasets.Dataset, name: str, limit: int) -> list[SourceTable]:
    where = f"--annotations {name!r}, split {split!r}"
    split = fields.usual_split(split, where)
    hub.column(part, "image_id", where, "")
    pictures = hub.picture_column(part, "image", where, "")
    if limit:
        pictures = pictures.select(range(min(limit, len(pictures))))
    known = ["image_id", *(one for one in (_DOMAIN, _CAPTIONS, _IDS) if one in part.column_names)]
    if _DOMAIN not in known and _CAPTIONS not in known:
        raise fields.no_column(where, _CAPTIONS, part.column_names, "")
    rows = pictures.select_columns(known).with_format("arrow")[:].to_pylist()
    pictures = pictures.select_columns("image")
    names: dict[str, str] = {}
    captions: list[tuple[str, str, int]] = []
    for place, row in enumerate(rows):
        at = f"{where}, row {place}"
        image = fields.id_of(row, "image_id", at)
        if image in names:
            raise UserError(f"{at}: two pictures have the image_id {image}: keep one of them")
        names[image] = fields.typed(row.get(_DOMAIN) or "", str, f"{at}, column {_DOMAIN!r}")
        captions += [(*said, place) for said in _captions(row, image, at)]
    ids = list(names)

    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        for number in range(first, last):
            yield {**hub.image_row(ids[number], pictures[number]["image"]), "domain": names[ids[number]]}

    images = SourceTable("images", split, len(ids), image_features(domains=True), read)
    return [images, *([_texts(split, captions)] if captions else [])]


def _captions(row: dict[str, Any], image: str, where: str) -> Iterator[tuple[str, str]]:
    """(id, caption) of each caption of a picture."""
    texts = fields.typed(row.get(_CAPTIONS) or [], list, f"{where}, column {_CAPTIONS!r}")
    ids = fields.typed(row.get(_IDS) or [f"{image}#{n}" for n in range(len(texts))], list, f"{where}, column {_IDS!r}")
    if len(ids) != len(texts):
        raise UserError(f"{where}: {len(texts):,} captions and {len(ids):,} ids of them: leave {_IDS!r} out")
    for one, text in zip(ids, texts, strict=True):
        yield str(one), fields.typed(text, str, f"{where}, column {_CAPTIONS!r}")


def _texts(split: str, captions: list[tuple[str, str, int]]) -> SourceTable:
    import pyarrow as pa

    ids, texts, rows = zip(*captions, strict=True)
    columns = {"text_id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())}
    return text_table(split, pa.table({**columns, "image_row": pa.array(rows, pa.int64())}))
