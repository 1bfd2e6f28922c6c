"""A text written for each text: a summary, another style, a continuation; lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Table, TextItem


class TextConfig(Config):
    """Keys of the task `text`."""

    name: str = key("text", "the task")
    template: str = key("{text}", "what the model reads: the text in its place", source="[U] the text alone")


class Text:
    """`core.contracts.Task`."""

    Config: ClassVar[type] = TextConfig
    table: ClassVar[str] = "texts"
    sees: ClassVar[bool] = False
    file: ClassVar[str] = "texts.jsonl"
    inputs: ClassVar[tuple[str, ...]] = ("prompt",)

    def __init__(self, config: TextConfig) -> None:
        self.config = config

    def files(self) -> Mapping[str, str]:
        return {}

    def rows(self, tables: Mapping[str, Table]) -> int:
        return len(tables[self.table])

    def items(self, tables: Mapping[str, Table], first: int, last: int) -> Sequence[TextItem]:
        table: Any = tables[self.table]
        part = table.select_columns(["text_id", "text"])[first:last]
        return [self._item(*row) for row in zip(part["text_id"], part["text"], strict=True)]

    def one(self, text: str) -> TextItem:
        return self._item("", text)

    def text_of(self, item: TextItem, written: str) -> str:
        return written.strip()

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"id": row, "text": text}

    def _item(self, number: str, text: str) -> TextItem:
        return TextItem(number, self.config.template.replace("{text}", text), asked=text)
