"""An answer to each question about a picture, in the layout of VQA's result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Table, TextItem
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.tasks.official import official_id

ANSWER = "Answer:"


class VqaConfig(Config):
    """Keys of the task `vqa`."""

    stage_defaults: ClassVar[dict[str, Any]] = {"generation": {"num_beams": 5, "max_new_tokens": 10}}
    """[S] VLKD: beam 5; [U] ten tokens hold an answer."""

    name: str = key("vqa", "the task")
    questions: str | None = key(
        None, "VQA v2's questions file, of pictures by their image_id (None: the data's table `questions`)",
        source="[U]", identity=False,
    )  # fmt: skip
    prompt: str = key(
        "Question: {question} Answer: <mask>.", "what the encoder reads beside the picture", source="[U] not known"
    )
    prefix: str = key(
        "Question: {question} Answer:", "how the decoder must begin; empty: it writes all, and the answer is what "
        "follows the last 'Answer:'", source="[U] safer than to have the question written again",
    )  # fmt: skip


class Vqa:
    """`core.contracts.Task`."""

    Config: ClassVar[type] = VqaConfig
    table: ClassVar[str] = "questions"
    sees: ClassVar[bool] = True
    file: ClassVar[str] = "answers.json"
    inputs: ClassVar[tuple[str, ...]] = ("image", "question")

    def __init__(self, config: VqaConfig) -> None:
        self.config = config
        self._rows_of: tuple[Mapping[str, Table], dict[str, int]] | None = None

    def files(self) -> Mapping[str, str]:
        return {"questions": self.config.questions} if self.config.questions else {}

    def rows(self, tables: Mapping[str, Table]) -> int:
        if self.config.questions:
            return len(self._asked)
        if self.table not in tables:
            raise UserError("these data have no table 'questions': give the questions' file by --questions")
        return len(tables[self.table])

    def items(self, tables: Mapping[str, Table], first: int, last: int) -> Sequence[TextItem]:
        if not self.config.questions:
            table: Any = tables[self.table]
            part = table.select_columns(["question_id", "question", "image_row"])[first:last]
            columns = (part["question_id"], part["question"], part["image_row"])
            return [self._item(*row) for row in zip(*columns, strict=True)]
        images = self._images(tables)
        found = []
        for number, question, image in self._asked[first:last]:
            if image not in images:
                raise UserError(
                    f"file {self.config.questions}: question {number} is about image {image}, which the split does not "
                    "hold: name the data of its pictures by --data, --split"
                )
            found.append(self._item(number, question, images[image]))
        return found

    def one(self, text: str) -> TextItem:
        return self._item("", text, -1)

    def text_of(self, item: TextItem, written: str) -> str:
        """The answer: up to the first full stop that ends a sentence, or the end of the line."""
        if not item.prefix and ANSWER in written:
            written = written.rpartition(ANSWER)[2]
        line = written.strip().partition("\n")[0]
        return line.partition(". ")[0].strip().removesuffix(".").strip()

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"question_id": official_id(row), "answer": text}

    def _item(self, number: str, question: str, image_row: int) -> TextItem:
        source, prefix = (text.replace("{question}", question) for text in (self.config.prompt, self.config.prefix))
        return TextItem(number, source, prefix, image_row, question)

    @cached_property
    def _asked(self) -> list[tuple[str, str, str]]:
        """question_id, question, image_id of each."""
        path = Path(str(self.config.questions)).expanduser()
        found = []
        for number, value in enumerate(fields.field(fields.read_document(path), "questions", list, f"file {path}")):
            where = f"file {path}, questions[{number}]"
            row = fields.typed(value, dict, where)
            ids = [str(row.get(name, "")) for name in ("question_id", "image_id")]
            if not all(ids):
                raise UserError(f"{where}: there is no question_id or no image_id")
            found.append((ids[0], fields.field(row, "question", str, where), ids[1]))
        return found

    def _images(self, tables: Mapping[str, Table]) -> dict[str, int]:
        """image_id -> row."""
        if self._rows_of is None or self._rows_of[0] is not tables:
            images: Any = tables["images"]
            ids = images.select_columns("image_id")[:]["image_id"]
            self._rows_of = tables, {one: row for row, one in enumerate(ids)}
        return self._rows_of[1]
