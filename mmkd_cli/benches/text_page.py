"""The page of a bench of texts: pictures with what was said of them, beside what people say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmkd_cli.core.contracts import BenchInput, Heat
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import PictureError, decode
from mmkd_cli.reports.blocks import Block, Card, Heading, Paragraph, Query, side_by_side, thumbnail


@dataclass(frozen=True)
class Said:
    """An item on the page. asked: the question, or an empty string. true: what people say, with how often."""

    item: str
    asked: str
    text: str
    true: Sequence[tuple[str, str]]
    right: bool | None
    note: str


def drawn(places: Sequence[int], shown: int, seed: int) -> list[int]:
    """Some of the places, at random."""
    return np.random.default_rng(seed).permutation(np.array(places, dtype=int))[:shown].tolist()


def section(title: str, places: Sequence[int], of: int, said: Callable[[int], Said],
            picture: Callable[[int], Image.Image] | None, heat: Callable[[int], Image.Image] | None = None
            ) -> list[Block]:  # fmt: skip
    """A heading, and these items (some of `of`): picture and text, then what people say. heat: the picture again, with
    what the model looked at, above what it said."""
    if not places:
        return []
    shown = f"{len(places)} of {of:,} such items, drawn at random."
    looked = " Over the second picture lies what the model looked at: red the most." if heat else ""
    blocks: list[Block] = [Heading(title), Paragraph(shown + looked)]
    for place in places:
        item = said(place)
        asked = Card(thumbnail(picture(place)) if picture else None, item.asked, None, item.item)
        answer = Card(thumbnail(heat(place)) if heat else None, item.text or "(nothing)", item.right, item.note)
        blocks.append(Query(asked, [answer, *(Card(None, text, None, note) for text, note in item.true)]))
    return blocks


@dataclass(frozen=True)
class Folder:
    """Pictures of a folder by the item's place. names: the files that may be an item's, the first that is there."""

    folder: Path
    names: Callable[[int], Sequence[str]]

    @classmethod
    def of(cls, folder: str | None, names: Callable[[int], Sequence[str]]) -> Folder | None:
        if folder is None:
            return None
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise UserError(f"--images {folder} is no folder: name the one that holds the pictures, or leave it out")
        return cls(place, names)

    def file(self, place: int) -> Path:
        """UserError where none of its names is there."""
        names = [part for name in self.names(place) for part in (name, name.rpartition("/")[2])]
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        raise UserError(f"--images {self.folder}: picture {names[0]} is not there: name the folder that holds it")

    def __call__(self, place: int) -> Image.Image:
        path = self.file(place)
        try:
            return decode(path.read_bytes())
        except (PictureError, OSError) as error:
            raise UserError(f"picture {path} can't be read: {error}") from None


@dataclass(frozen=True)
class Stored:
    """Pictures of a prepared table by the item's place. rows [n]: each item's rows of the table."""

    images: Any
    rows: Sequence[Sequence[int]]

    @classmethod
    def of(cls, given: BenchInput, rows: Sequence[Sequence[int]]) -> Stored | None:
        """None where no prepared data are given."""
        return cls(given.data.table("images", given.split), rows) if given.data is not None else None

    def each(self, place: int) -> list[Image.Image]:
        images = self.images.with_format("arrow")
        return [decode(images[row]["image"][0]["bytes"].as_py()) for row in self.rows[place]]

    def __call__(self, place: int) -> Image.Image:
        return side_by_side(self.each(place))

    def heated(self, heat: Heat | None, asked: Callable[[int], str]) -> Callable[[int], Image.Image] | None:
        """The same with what a model looked at. asked(place): the question."""
        if heat is None:
            return None
        return lambda place: side_by_side(heat(asked(place), self.rows[place], self.each(place)))
