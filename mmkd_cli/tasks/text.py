"""A text written for each text: a summary, another style, a continuation; lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Table, TextItem
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.labels import COLUMN, read_labels

LABEL, OTHER = "{label}", "{other_label}"


class TextConfig(Config):
    """Keys of the task `text`."""

    name: str = key("text", "the task")
    template: str = key(
        "{text}", "what the model reads: the text in its place; where texts have labels, {label} is the name of its "
        "own and {other_label} the other one of two (the style that yelp's references are in)",
        source="[U] the text alone",
    )  # fmt: skip


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
        fields = self._label_fields(table, first, part["text"])
        return [self._item(*row) for row in zip(part["text_id"], part["text"], fields, strict=True)]

    def one(self, text: str) -> TextItem:
        if found := self._asked():
            raise UserError(f"task.template has {found[0]}, and a prompt has no label: write it there as a word")
        return self._item("", text, {})

    def text_of(self, item: TextItem, written: str) -> str:
        return written.strip()

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"id": row, "text": text}

    def _asked(self) -> list[str]:
        """Fields of the template that are of labels."""
        return [field for field in (LABEL, OTHER) if field in self.config.template]

    def _label_fields(self, table: Any, first: int, texts: Sequence[str]) -> list[dict[str, str]]:
        """Field -> name of a label, for each text of the rows from `first` on. UserError where one has no label."""
        asked = self._asked()
        if not asked:
            return [{}] * len(texts)
        if COLUMN not in table.column_names:
            raise UserError(
                f"task.template has {asked[0]}, and the data's texts have no column {COLUMN!r}: name others"
            )
        names, values = read_labels(table, "table 'texts'")
        if names is None or (OTHER in asked and len(names) != 2):
            said = f"{len(names)} ({', '.join(names)})" if names else "numbers"
            raise UserError(f"task.template has {asked[-1]}, and the labels are {said}: leave it out")
        found = []
        for place, (text, value) in enumerate(zip(texts, values[first:], strict=False), first):
            if np.isfinite(value):
                found.append({LABEL: names[int(value)], OTHER: names[1 - int(value)] if len(names) == 2 else ""})
            elif text.strip():
                raise UserError(f"task.template has {asked[0]}, and row {place} of the texts has no label")
            else:
                found.append(dict.fromkeys((LABEL, OTHER), ""))  # a rejected row
        return found

    def _item(self, number: str, text: str, fields: Mapping[str, str]) -> TextItem:
        source = self.config.template
        for field, name in fields.items():
            source = source.replace(field, name)
        return TextItem(number, source.replace("{text}", text), asked=text)
