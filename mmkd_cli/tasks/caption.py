"""A caption of each picture, in the layout of COCO's result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmkd_cli.architectures.generation import MASK
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Table, TextItem
from mmkd_cli.tasks.official import official_id


class CaptionConfig(Config):
    """Keys of the task `caption`."""

    stage_defaults: ClassVar[dict[str, Any]] = {"generation": {"num_beams": 5, "max_new_tokens": 20}}
    """[S] VLKD: beam 5, at most 20 tokens."""

    name: str = key("caption", "the task")
    prompt: str = key(
        MASK, "what the encoder reads beside the picture; its words around <mask> are taken off the caption",
        source="[U] the paper's prompt is not known; another: A picture of <mask>.",
    )  # fmt: skip


class Caption:
    """`core.contracts.Task`."""

    Config: ClassVar[type] = CaptionConfig
    table: ClassVar[str] = "images"
    sees: ClassVar[bool] = True
    file: ClassVar[str] = "captions.json"
    inputs: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(self, config: CaptionConfig) -> None:
        self.config = config

    def files(self) -> Mapping[str, str]:
        return {}

    def rows(self, tables: Mapping[str, Table]) -> int:
        return len(tables[self.table])

    def items(self, tables: Mapping[str, Table], first: int, last: int) -> Sequence[TextItem]:
        table: Any = tables[self.table]
        ids = table.select_columns("image_id")[first:last]["image_id"]
        return [TextItem(one, self.config.prompt, image_row=first + place) for place, one in enumerate(ids)]

    def one(self, text: str) -> TextItem:
        return TextItem("", self.config.prompt)

    def text_of(self, item: TextItem, written: str) -> str:
        """The caption without the prompt's words, in one line."""
        text = " ".join(written.split())
        before, _, after = (" ".join(part.split()) for part in self.config.prompt.partition(MASK))
        text = text[len(before) :] if text.lower().startswith(before.lower()) else text
        return (text.removesuffix(after) if after else text).strip()

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"image_id": official_id(row), "caption": text}
