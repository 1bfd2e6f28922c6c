"""nocaps (Agrawal et al. 2019): its official JSON and Open Images' pictures in a folder, or `datasets`.

{"images": [{"id", "file_name", "domain"?}], "annotations"?: [{"id", "image_id", "caption"}]}. One file is one split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.nocaps_datasets import NocapsDatasets
from mmkd_cli.data.sources.picture_files import file_of, folder_of, listing, locate
from mmkd_cli.data.tables import text_table


class NocapsConfig(Config):
    """Keys of this source."""

    name: str = key("nocaps", "the source")
    images: str | None = key(
        None, "folder of the pictures, or of val and test (None: datasets hold them)", identity=False
    )
    annotations: str = key(
        description="nocaps_val_4500_captions.json or nocaps_test_image_info.json; without --images a datasets folder "
        "or hub id", identity=False,
    )  # fmt: skip
    limit: int = key(0, "only the first pictures; 0: all", source="[U]", unit="pictures", ge=0)


class Nocaps:
    """The reader that fits what is named (`core.contracts.Source`).

    `images` with their `domain` ("" where nothing says it), and `texts` where there are captions.
    """

    Config = NocapsConfig

    def __init__(self, config: NocapsConfig) -> None:
        self._reader: NocapsFile | NocapsDatasets
        if config.images is not None:
            self._reader = NocapsFile(config, config.images)
        elif Path(config.annotations).suffix == ".json":
            raise UserError(f"--annotations {config.annotations!r} holds no pictures: name their folder by --images")
        else:
            self._reader = NocapsDatasets(config)

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are named and not there."""
        return self._reader.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """What the pictures and captions are; no paths."""
        return self._reader.identity(memory)

    def tables(self) -> Sequence[SourceTable]:
        """`images`, and `texts` where there are captions."""
        return self._reader.tables()


class NocapsFile:
    """The official JSON, one split."""

    def __init__(self, config: NocapsConfig, images: str) -> None:
        import pyarrow as pa

        self._file = file_of(config.annotations, "--annotations")
        document = fields.read_document(self._file)
        split = fields.split_named(self._file.name, "val")
        rows: dict[str, int] = {}
        files, domains = [], []
        for number, value in enumerate(fields.field(document, "images", list, f"file {self._file}")):
            where = f"file {self._file}, images[{number}]"
            image = fields.typed(value, dict, where)
            one = fields.id_of(image, "id", where)
            if one in rows:
                raise UserError(f"{where}: two images have the id {one}: keep one of them")
            rows[one] = number
            files.append(fields.inner_path(fields.field(image, "file_name", str, where), where))
            domains.append(fields.field(image, "domain", str, where) if "domain" in image else "")
        if not rows:
            raise UserError(f"file {self._file}: there are no images: give nocaps' own file")
        kept = slice(config.limit or None)
        columns = {"image_id": list(rows)[kept], "file": files[kept], "source": files[kept], "domain": domains[kept]}
        root = folder_of(images, "--images")
        folders = [root, *(place for name in (split, "validation", "images") if (place := root / name).is_dir())]
        self._pictures = locate(split, {name: pa.array(of, pa.string()) for name, of in columns.items()}, folders)
        self._texts = self._captions(split, document, rows, self._pictures.columns.num_rows)

    def _captions(self, split: str, document: dict[str, Any], rows: dict[str, int], images: int) -> list[SourceTable]:
        """`texts` where the file has captions."""
        import pyarrow as pa

        if "annotations" not in document:
            return []
        ids, texts, image_rows = [], [], []
        for number, value in enumerate(fields.field(document, "annotations", list, f"file {self._file}")):
            where = f"file {self._file}, annotations[{number}]"
            caption = fields.typed(value, dict, where)
            image = fields.id_of(caption, "image_id", where)
            if image not in rows:
                raise UserError(f"{where}, field 'image_id': no image of the file has the id {image}")
            if rows[image] < images:
                ids.append(fields.id_of(caption, "id", where))
                texts.append(fields.field(caption, "caption", str, where))
                image_rows.append(rows[image])
        columns = {"text_id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())}
        return [text_table(split, pa.table({**columns, "image_row": pa.array(image_rows, pa.int64())}))]

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are named and not there."""
        return self._pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the file; listing of the pictures."""
        return {"annotations": sha256_file(self._file, memory), "images": listing([self._pictures])}

    def tables(self) -> Sequence[SourceTable]:
        """`images`, and `texts` where there are captions."""
        return [self._pictures.table(), *self._texts]
