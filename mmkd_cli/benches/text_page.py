"""The page of a bench of texts: pictures with what was said of them, beside what people say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import PictureError, decode
from mmkd_cli.reports.blocks import Block, Card, Heading, Paragraph, Query, thumbnail


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
            picture: Callable[[int], Image.Image] | None) -> list[Block]:  # fmt: skip
    """A heading, and these items (some of `of`): picture and text, then what people say."""
    if not places:
        return []
    blocks: list[Block] = [Heading(title), Paragraph(f"{len(places)} of {of:,} such items, drawn at random.")]
    for place in places:
        item = said(place)
        asked = Card(thumbnail(picture(place)) if picture else None, item.asked, None, item.item)
        answer = Card(None, item.text or "(nothing)", item.right, item.note)
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
    """Pictures of a prepared table by the item's place. rows [n]: each item's row of the table."""

    images: Any
    rows: Sequence[int]

    @classmethod
    def of(cls, given: BenchInput, rows: Sequence[int]) -> Stored | None:
        """None where no prepared data are given."""
        return cls(given.data.table("images", given.split), rows) if given.data is not None else None

    def __call__(self, place: int) -> Image.Image:
        return decode(self.images.with_format("arrow")[self.rows[place]]["image"][0]["bytes"].as_py())
