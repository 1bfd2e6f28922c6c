"""VQA v2's official JSON (OK-VQA's is the same): questions, and what ten people answered.

Questions: {"data_subtype"?, "questions": [{"question_id", "image_id", "question"}]}. Annotations: {"data_subtype"?,
"annotations": [{"question_id", "image_id", "question_type", "answer_type", "answers": [{"answer"}],
"multiple_choice_answer"?}]}.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields


class Asked(NamedTuple):
    """A question about a picture; both ids as texts."""

    image: str
    question: str


class Answered(NamedTuple):
    """What people answered to a question. common: the answer that most of them gave."""

    image: str
    question_type: str
    answer_type: str
    common: str
    answers: list[str]


def read_questions(path: Path) -> tuple[str, dict[str, Asked]]:
    """The file's part of COCO (val2014), and question_id -> question in the file's order; UserError names the row."""
    document = fields.read_document(path)
    found: dict[str, Asked] = {}
    for where, one, row in _rows(path, document, "questions"):
        _refuse_doubled(one, found, path, "questions")
        found[one] = Asked(fields.id_of(row, "image_id", where), fields.field(row, "question", str, where))
    return _subtype(path, document), found


def read_answers(path: Path) -> tuple[str, dict[str, Answered]]:
    """The same of people's answers."""
    document = fields.read_document(path)
    found: dict[str, Answered] = {}
    for where, one, row in _rows(path, document, "annotations"):
        _refuse_doubled(one, found, path, "annotations")
        answers = []
        for place, given in enumerate(fields.field(row, "answers", list, where)):
            at = f"{where}, answers[{place}]"
            answers.append(fields.field(fields.typed(given, dict, at), "answer", str, at))
        if not answers:
            raise UserError(f"{where}, field 'answers': there are none")
        chosen = "multiple_choice_answer"
        found[one] = Answered(
            fields.id_of(row, "image_id", where),
            fields.field(row, "question_type", str, where),
            fields.field(row, "answer_type", str, where),
            fields.field(row, chosen, str, where) if chosen in row else Counter(answers).most_common(1)[0][0],
            answers,
        )
    return _subtype(path, document), found


def picture_names(image: str, subtype: str) -> list[str]:
    """Names that a picture's file may have: COCO's of 2014 and 2017, or the plain id."""
    number = f"{image:0>12}"
    official = [f"COCO_{subtype}_{number}.jpg", f"{number}.jpg"] if image.isascii() and image.isdigit() else []
    return [*official, f"{image}.jpg", f"{image}.png"]


def _rows(path: Path, document: dict[str, Any], name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where, question_id, object) of each."""
    for number, value in enumerate(fields.field(document, name, list, f"file {path}")):
        where = f"file {path}, {name}[{number}]"
        row = fields.typed(value, dict, where)
        yield where, fields.id_of(row, "question_id", where), row


def _refuse_doubled(one: str, found: dict[str, Any], path: Path, name: str) -> None:
    if one in found:
        raise UserError(f"file {path}: two {name} have the question_id {one}: keep one of them")


def _subtype(path: Path, document: dict[str, Any]) -> str:
    """What the document, else the file's name says; an empty string where neither does."""
    said = document.get("data_subtype")
    named = re.search(r"(?:^|_)((?:train|val|test|test-dev)\d{4})_", path.name)
    return said if isinstance(said, str) else named[1] if named else ""
