"""Whether statements about pictures are true, in the layout of NLVR's and NLVR2's result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Table, TextItem
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.judged import truth
from mmkd_cli.data.tables import SECOND_PICTURE


class NlvrConfig(Config):
    """Keys of the task `nlvr`."""

    name: str = key("nlvr", "the task")


class Nlvr2Config(Config):
    """Keys of the task `nlvr2`."""

    name: str = key("nlvr2", "the task")


class Nlvr:
    """`core.contracts.Task`."""

    Config: ClassVar[type] = NlvrConfig
    table: ClassVar[str] = "questions"
    sees: ClassVar[bool] = True
    file: ClassVar[str] = "predictions.csv"
    inputs: ClassVar[tuple[str, ...]] = ("image", "question")
    pictures: ClassVar[tuple[str, ...]] = ("image_row",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self) -> Mapping[str, str]:
        return {}

    def rows(self, tables: Mapping[str, Table]) -> int:
        table: Any = tables.get(self.table)
        if table is None or any(name not in table.column_names for name in self.pictures):
            raise UserError(f"the task {self.config.name!r} needs statements about {len(self.pictures)} pictures each: "
                            "name data of `prepare-data --source` of its name by --data")  # fmt: skip
        return len(table)

    def items(self, tables: Mapping[str, Table], first: int, last: int) -> Sequence[TextItem]:
        table: Any = tables[self.table]
        part = table.select_columns(["question_id", "question", *self.pictures])[first:last]
        pictures = zip(*(part[name] for name in self.pictures), strict=True)
        return [
            TextItem(number, text, "", rows[0], text, rows[1:])
            for number, text, rows in zip(part["question_id"], part["question"], pictures, strict=True)
        ]

    def one(self, text: str) -> TextItem:
        return TextItem("", text, asked=text)

    def text_of(self, item: TextItem, written: str) -> str:
        """True or False, as the release writes them."""
        return truth(written.strip(), f"the model's answer to {item.id or item.asked}").capitalize()

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"identifier": row, "prediction": text}


class Nlvr2(Nlvr):
    """Of two photos, which are seen in data alone."""

    Config = Nlvr2Config
    inputs: ClassVar[tuple[str, ...]] = ()
    pictures = ("image_row", SECOND_PICTURE)
