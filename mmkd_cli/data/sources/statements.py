"""Questions and statements about pictures with one right answer each: GQA (Hudson and Manning 2019), SNLI-VE (Xie et
al. 2019), NLVR and NLVR2 (Suhr et al. 2017, 2019), DAQUAR (Malinowski and Fritz 2014)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources import fields, judged
from mmkd_cli.data.sources.judged import Judged
from mmkd_cli.data.sources.picture_files import PictureFiles, folder_of, listing, locate_any
from mmkd_cli.data.tables import SECOND_PICTURE, question_features, rows_of

_SPLIT = re.compile(r"(?:^|[_.-])(train|validation|valid|val|dev|testdev|test\d?)(?=[_.-]|$)")


class StatementsConfig(Config):
    """Keys of these sources."""

    name: str = key("", "the source")
    images: str = key(description="folder of the pictures", identity=False)
    annotations: str = key(description="an official file, or a folder of them", identity=False)
    split: str | None = key(None, "of a single file whose name says none", source="[U] the name says it")
    limit: int = key(0, "only the first items of each split; 0: all", source="[U]", unit="questions", ge=0)


class GqaConfig(StatementsConfig):
    name: str = key("gqa", "the source")


class SnliVeConfig(StatementsConfig):
    name: str = key("snli-ve", "the source")


class NlvrConfig(StatementsConfig):
    name: str = key("nlvr", "the source")


class Nlvr2Config(StatementsConfig):
    name: str = key("nlvr2", "the source")


class DaquarConfig(StatementsConfig):
    name: str = key("daquar", "the source")


class Statements:
    """`images`, each once, and `questions` of each split, in the official order (`core.contracts.Source`).

    A source is this with its reader and the names that its pictures' files may have.
    """

    Config: ClassVar[type] = StatementsConfig
    pattern: ClassVar[str] = "*.json"
    """Of the files in a folder."""
    pictures: ClassVar[int] = 1
    """An item is about so many."""

    def __init__(self, config: StatementsConfig) -> None:
        self.config = config
        folder = folder_of(config.images, "--images")
        self._items = self.read()
        self._pictures = [self._located(split, items, folder) for split, items in self._items.items()]

    def read(self) -> dict[str, list[Judged]]:
        """Split -> its items."""
        found: dict[str, list[Judged]] = {}
        for path in self.files():
            named = self.config.split or self.split_of(path)
            if named in found:
                raise UserError(f"file {path}: another file has the items of {named!r}, too: name one of them")
            items = self.items_of(path)
            found[named] = items[: self.config.limit or None]
        return found

    def files(self) -> list[Path]:
        found = fields.official_files(self.config.annotations, self.pattern)
        if self.config.split and len(found) > 1:
            raise UserError("--set source.split names the split of one file: name it by --annotations")
        return found

    def split_of(self, path: Path) -> str:
        named = _SPLIT.findall(path.stem)
        if not named:
            raise UserError(f"file {path}: its name says no split: say it by --set source.split=val")
        return fields.usual_split(named[-1], f"file {path}")

    def items_of(self, path: Path) -> list[Judged]:
        raise NotImplementedError

    def names(self, image: str, split: str) -> list[str]:
        """Files that a picture may be, relative to the folder."""
        return [f"{image}.jpg", f"{image}.png"]

    def _located(self, split: str, items: Sequence[Judged], folder: Path) -> PictureFiles:
        ids = list(dict.fromkeys(image for one in items for image in one.images))
        for image in ids:
            fields.inner_path(image, f"source {self.config.name}, picture")
        return locate_any(split, ids, [self.names(image, split) for image in ids], folder)

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are asked about and not there."""
        for pictures in self._pictures:
            yield from pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the official files; listing of the pictures."""
        return {"annotations": [sha256_file(path, memory) for path in self.files()], "images": listing(self._pictures)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `questions` of each split."""
        return [
            *(pictures.table() for pictures in self._pictures),
            *(self._questions(split, items) for split, items in self._items.items()),
        ]

    def _questions(self, split: str, items: Sequence[Judged]) -> SourceTable:
        import pyarrow as pa

        row_of = {image: row for row, image in enumerate(dict.fromkeys(i for one in items for i in one.images))}
        features = question_features(pictures=self.pictures)
        columns: dict[str, list[Any]] = {
            "question_id": [one.id for one in items],
            "question": [one.asked for one in items],
            "image_row": [row_of[one.images[0]] for one in items],
            "question_type": [one.sentence or one.groups.get("structural", "") for one in items],
            "answer_type": [one.groups.get("answer", "") for one in items],
            "answer": [one.answer for one in items],
            "answers": [[one.answer] for one in items],
        }
        if self.pictures > 1:
            columns[SECOND_PICTURE] = [row_of[one.images[1]] for one in items]
        schema = features.arrow_schema
        table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for row in rows_of(table, first, last):
                yield row if row["question"].strip() else {**row, "problem": "the question is empty"}

        return SourceTable("questions", split, len(items), features, read)


class Gqa(Statements):
    """The balanced questions; question_type is GQA's structural type, answer_type binary or open."""

    Config = GqaConfig
    pattern = "*questions.json"

    def items_of(self, path: Path) -> list[Judged]:
        return judged.read_gqa(path)[0]


class SnliVe(Statements):
    """Hypotheses about photos of Flickr30k; pairs without an agreed label are left out."""

    Config = SnliVeConfig
    pattern = "*.jsonl"

    def items_of(self, path: Path) -> list[Judged]:
        return judged.read_snli_ve(path)[0]


class Nlvr(Statements):
    """Statements about drawn pictures, of each set its first order; question_type is the sentence's number."""

    Config = NlvrConfig

    def items_of(self, path: Path) -> list[Judged]:
        return judged.read_nlvr(path)[0]

    def names(self, image: str, split: str) -> list[str]:
        own = {"val": "dev"}.get(split, split)
        if self.config.split:  # the pictures are called as their file is
            own = next(iter(_SPLIT.findall(self.files()[0].stem)), own)
        return [f"{own}-{image}-0.png", f"images/{own}-{image}-0.png", f"{image}.png"]


class Nlvr2(Statements):
    """Statements about two photos; question_type is the sentence."""

    Config = Nlvr2Config
    pictures = 2

    def items_of(self, path: Path) -> list[Judged]:
        return judged.read_nlvr2(path)[0]

    def names(self, image: str, split: str) -> list[str]:
        own = image.partition("-")[0]
        return [f"{image}.png", f"{own}/{image}.png"]


class Daquar(Statements):
    """Questions about rooms; splits are those of the lists (train_images_list.txt, test_images_list.txt) beside a file
    whose name says no split. The answer is one text, its parts parted by commas."""

    Config = DaquarConfig
    pattern = "*.txt"
    lists: ClassVar[dict[str, str]] = {"train": "train_images_list.txt", "test": "test_images_list.txt"}

    def read(self) -> dict[str, list[Judged]]:
        place = Path(self.config.annotations).expanduser()
        photos = {split: place.parent / name for split, name in self.lists.items() if (place.parent / name).is_file()}
        if self.config.split or _SPLIT.search(place.stem) or not photos:
            return super().read()
        return {
            split: judged.read_daquar(place, file)[0][: self.config.limit or None] for split, file in photos.items()
        }

    def items_of(self, path: Path) -> list[Judged]:
        return judged.read_daquar(path, None)[0]
