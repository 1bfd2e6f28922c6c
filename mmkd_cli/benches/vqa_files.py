"""Questions and the people's answers in VQA v2's official layout (OK-VQA's is the same).

Annotations: {"annotations": [{"question_id", "image_id", "question_type", "answer_type", "answers": [{"answer"}],
"multiple_choice_answer"?}], "data_subtype"?}. Questions: {"questions": [{"question_id", "image_id", "question"}]}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkd_cli.benches.result_files import FIRST, id_of
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields


@dataclass(frozen=True)
class VqaItems:
    """All [n], in the annotations' order. common: the commonest answer. asked: the questions, "" where none is given.

    subtype: part of the pictures' file names, as val2014.
    """

    ids: Sequence[str]
    images: Sequence[str]
    answers: Sequence[Sequence[str]]
    common: Sequence[str]
    question_types: Sequence[str]
    answer_types: Sequence[str]
    asked: Sequence[str]
    subtype: str

    def __len__(self) -> int:
        return len(self.ids)

    def picture_files(self, place: int) -> list[str]:
        """Names that the picture's file may have: COCO's, or the plain id."""
        image = self.images[place]
        official = [f"COCO_{self.subtype}_{int(image):012d}.jpg", f"{int(image):012d}.jpg"] if image.isdigit() else []
        return [*official, f"{image}.jpg", f"{image}.png"]


def read_vqa(annotations: Path, questions: Path | None) -> VqaItems:
    """UserError names the file, the row and the field."""
    document = fields.read_document(annotations)
    rows = [_row(annotations, number, value) for number, value in enumerate(
        fields.field(document, "annotations", list, f"file {annotations}"))]  # fmt: skip
    if not rows:
        raise UserError(f"file {annotations}: there are no annotations")
    ids = [row["id"] for row in rows]
    if doubled := [one for one, times in Counter(ids).items() if times > 1]:
        raise UserError(f"file {annotations}: two annotations have the question_id {doubled[0]}")
    subtype = document.get("data_subtype")
    return VqaItems(
        ids,
        [row["image"] for row in rows],
        [row["answers"] for row in rows],
        [row["common"] for row in rows],
        [row["question_type"] for row in rows],
        [row["answer_type"] for row in rows],
        _asked(questions, ids) if questions else [""] * len(ids),
        subtype if isinstance(subtype, str) else "val2014",
    )


def _row(path: Path, number: int, value: Any) -> dict[str, Any]:
    where = f"file {path}, annotations[{number}]"
    row = fields.typed(value, dict, where)
    answers = []
    for place, given in enumerate(fields.field(row, "answers", list, where)):
        at = f"{where}, answers[{place}]"
        answers.append(fields.field(fields.typed(given, dict, at), "answer", str, at))
    if not answers:
        raise UserError(f"{where}, field 'answers': there are none")
    chosen = "multiple_choice_answer"
    return {
        "id": id_of(row, "question_id", where),
        "image": id_of(row, "image_id", where),
        "answers": answers,
        "common": fields.field(row, chosen, str, where) if chosen in row else Counter(answers).most_common(1)[0][0],
        "question_type": fields.field(row, "question_type", str, where),
        "answer_type": fields.field(row, "answer_type", str, where),
    }


def _asked(path: Path, ids: Sequence[str]) -> list[str]:
    """The questions of `ids`; there may be more."""
    found = {}
    document = fields.read_document(path)
    for number, value in enumerate(fields.field(document, "questions", list, f"file {path}")):
        where = f"file {path}, questions[{number}]"
        row = fields.typed(value, dict, where)
        found[id_of(row, "question_id", where)] = fields.field(row, "question", str, where)
    if missing := [one for one in ids if one not in found]:
        raise UserError(
            f"file {path}: {len(missing):,} questions of the annotations are missing, the first: "
            f"{', '.join(missing[:FIRST])}: give the two files of one split"
        )
    return [found[one] for one in ids]
