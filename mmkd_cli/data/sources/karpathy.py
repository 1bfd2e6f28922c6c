"""COCO, Flickr30k and Flickr8k in Karpathy's JSON (Karpathy and Fei-Fei, CVPR 2015); COCO's official captions JSON.

Karpathy's: {"images": [{"filename", "split", "sentences": [{"raw", "sentid"}], "filepath"?, "cocoid"?}]}.
Official: {"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.picture_files import PictureFiles, file_of, folder_of, listing, locate, without_suffix
from mmkd_cli.data.tables import text_table


class KarpathyConfig(Config):
    """Keys of these sources."""

    name: str = key("flickr8k", "the source")
    images: str = key(description="folder of the pictures", identity=False)
    annotations: str = key(description="the JSON file", identity=False)
    train_splits: tuple[str, ...] = key(
        ("train",), "splits that count as train, in the file's order",
        source="[U] others keep their names (restval); an unlisted train is left out",
    )  # fmt: skip
    limit: int = key(0, "only the first pictures of each split; 0: all", source="[U]", unit="pictures", ge=0)


class Flickr30kConfig(KarpathyConfig):
    name: str = key("flickr30k", "the source")


class CocoConfig(KarpathyConfig):
    name: str = key("coco", "the source")
    annotations: str = key(
        description="Karpathy's JSON, an official captions_*.json, or a folder of the latter", identity=False
    )


@dataclass
class _Split:
    """Columns of a split as they are read."""

    image_ids: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    text_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    image_rows: list[int] = field(default_factory=list)

    def add_image(self, image_id: str, file: str) -> int:
        self.image_ids.append(image_id)
        self.files.append(file)
        return len(self.image_ids) - 1

    def add_text(self, text_id: str, text: str, image_row: int) -> None:
        self.text_ids.append(text_id)
        self.texts.append(text)
        self.image_rows.append(image_row)


@dataclass
class _Splits:
    """Splits by their prepared names, and the names that the files use."""

    train_splits: tuple[str, ...]
    found: dict[str, _Split] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def of(self, name: str, where: str) -> _Split:
        """The split that this name of a file counts as; a split of its own, in no table, where it is left out."""
        self.named.add(name)
        prepared = fields.prepared_split(name, self.train_splits, where)
        return _Split() if prepared is None else self.found.setdefault(prepared, _Split())


class CaptionFiles:
    """Pictures with captions, in an annotation file that names its splits (`core.contracts.Source`)."""

    Config = KarpathyConfig

    def __init__(self, config: KarpathyConfig) -> None:
        self.config = config
        folder = folder_of(config.images, "--images")
        self._annotations = self._files(config)
        splits = _Splits(config.train_splits)
        for path in self._annotations:
            _read(path, config, splits)
        fields.require_splits(config.train_splits, splits.named, config.annotations)
        self._pictures: list[PictureFiles] = []
        self._texts: list[SourceTable] = []
        for name, split in splits.found.items():
            self._add(name, split, folder)

    @staticmethod
    def _files(config: KarpathyConfig) -> list[Path]:
        return [file_of(config.annotations, "--annotations")]

    def _add(self, name: str, split: _Split, folder: Path) -> None:
        import pyarrow as pa

        columns = {"image_id": pa.array(split.image_ids, pa.string()), "file": pa.array(split.files, pa.string())}
        # COCO's folders (train2014/) may have been flattened into one
        nested = any("/" in file for file in split.files[:1])
        pictures = locate(name, {**columns, "source": columns["file"]}, [folder])
        if nested and (pictures.sizes < 0).all():
            flat = pa.array([file.rpartition("/")[2] for file in split.files], pa.string())
            pictures = locate(name, {**columns, "file": flat, "source": columns["file"]}, [folder])
        self._pictures.append(pictures)
        self._texts.append(text_table(name, pa.table({
            "text_id": pa.array(split.text_ids, pa.string()),
            "text": pa.array(split.texts, pa.string()),
            "image_row": pa.array(split.image_rows, pa.int64()),
        })))  # fmt: skip

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are named and not there."""
        for pictures in self._pictures:
            yield from pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the annotation files; listing of the pictures."""
        return {
            "annotations": [sha256_file(path, memory) for path in self._annotations],
            "images": listing(self._pictures),
        }

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `texts` of each split."""
        return [*(pictures.table() for pictures in self._pictures), *self._texts]


class Flickr8k(CaptionFiles):
    """Flickr8k in Karpathy's JSON."""


class Flickr30k(CaptionFiles):
    """Flickr30k in Karpathy's JSON."""

    Config = Flickr30kConfig


class Coco(CaptionFiles):
    """COCO captions: Karpathy's JSON, or one or all of the official captions files."""

    Config = CocoConfig

    @staticmethod
    def _files(config: KarpathyConfig) -> list[Path]:
        folder = Path(config.annotations).expanduser()
        if not folder.is_dir():
            return [file_of(config.annotations, "--annotations")]
        files = sorted(folder.glob("captions_*.json"))
        if not files:
            raise UserError(f"--annotations {config.annotations!r} holds no captions_*.json: name the file itself")
        return files


def _read(path: Path, config: KarpathyConfig, splits: _Splits) -> None:
    document = fields.read_document(path)
    where = f"file {path}"
    images = fields.field(document, "images", list, where)
    if "annotations" in document and config.name == "coco":
        _read_official(path, document, images, config, splits)
        return
    for number, value in enumerate(images):
        row = f"{where}, images[{number}]"
        image = fields.typed(value, dict, row)
        split = splits.of(fields.field(image, "split", str, row), f"{row}, field 'split'")
        if config.limit and len(split.image_ids) == config.limit:
            continue
        file = fields.inner_path(fields.field(image, "filename", str, row), row)
        if "filepath" in image:
            file = fields.inner_path(f"{fields.field(image, 'filepath', str, row)}/{file}", row)
        image_id = str(fields.field(image, "cocoid", int, row)) if "cocoid" in image else without_suffix(file)
        image_row = split.add_image(image_id, file)
        for place, sentence in enumerate(fields.field(image, "sentences", list, row)):
            at = f"{row}, sentences[{place}]"
            sentence = fields.typed(sentence, dict, at)
            text_id = str(fields.field(sentence, "sentid", int, at))
            split.add_text(text_id, fields.field(sentence, "raw", str, at), image_row)


def _read_official(
    path: Path, document: dict[str, Any], images: list[Any], config: KarpathyConfig, splits: _Splits
) -> None:
    """One official file is one split, named in the file's own name: captions_val2017.json is `val`."""
    where = f"file {path}"
    named = re.match(r"captions_([a-z]+)\d*", path.stem)
    split = splits.of(named[1] if named else "train", where)
    inside = path.stem.removeprefix("captions_")
    folder = Path(config.images).expanduser()
    prefix = f"{inside}/" if (folder / inside).is_dir() else ""
    image_row: dict[int, int] = {}
    for number, value in enumerate(images[: config.limit or None]):
        row = f"{where}, images[{number}]"
        image = fields.typed(value, dict, row)
        image_id = fields.field(image, "id", int, row)
        file = fields.inner_path(fields.field(image, "file_name", str, row), row)
        image_row[image_id] = split.add_image(str(image_id), prefix + file)
    known = image_row if not config.limit else {fields.field(i, "id", int, where) for i in images}
    for number, value in enumerate(fields.field(document, "annotations", list, where)):
        row = f"{where}, annotations[{number}]"
        annotation = fields.typed(value, dict, row)
        image_id = fields.field(annotation, "image_id", int, row)
        if image_id not in known:
            raise UserError(f"{row}, field 'image_id': no image of the file has the id {image_id}")
        if image_id in image_row:
            text = fields.field(annotation, "caption", str, row)
            split.add_text(str(fields.field(annotation, "id", int, row)), text, image_row[image_id])
