"""What a page is made of. Every string is data and is escaped; only `Figure.svg` is markup, and plots.py draws it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL_PX = 176
_JPEG_QUALITY = 82

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Heading:
    kind: ClassVar[str] = "heading"
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; None is an empty cell. `quoted`: indices of rows that are a paper's."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    quoted: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A drawing as inline SVG (see plots.py) and what it shows."""

    kind: ClassVar[str] = "figure"
    svg: str
    caption: str


@dataclass(frozen=True)
class Card:
    """A picture with its caption, or either alone. right: True and False are marked, None is neutral.

    picture: a data URI (see `thumbnail`).
    """

    picture: str | None = None
    caption: str = ""
    right: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """A grid of cards."""

    kind: ClassVar[str] = "pictures"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Query:
    """What was asked, and what was found for it, best first."""

    kind: ClassVar[str] = "query"
    asked: Card
    found: Sequence[Card]


Block = Heading | Paragraph | Table | Figure | Pictures | Query


def side_by_side(images: Sequence[Image]) -> Image:
    """Pictures of one height on a row, parted by a white line."""
    from PIL import Image as Pictures

    if len(images) == 1:
        return images[0]
    height = min(image.height for image in images)
    same = [image.convert("RGB").resize((max(1, image.width * height // image.height), height)) for image in images]
    gap = max(1, height // 32)
    row = Pictures.new("RGB", (sum(image.width for image in same) + gap * (len(same) - 1), height), "white")
    left = 0
    for image in same:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


def thumbnail(image: Image, side: int = THUMBNAIL_PX) -> str:
    """A picture as the data URI of a JPEG whose longer side is at most `side` px."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
