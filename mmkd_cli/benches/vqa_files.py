"""Questions and the people's answers that are scored: VQA v2's official files (OK-VQA's layout is the same)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkd_cli.benches.result_files import FIRST
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.vqa_json import Asked, picture_names, read_answers, read_questions


@dataclass(frozen=True)
class VqaItems:
    """All [n], in the annotations' order. common: the commonest answer. asked: the questions, "" where none is given.

    subtype: part of the pictures' file names, as val2014. image_rows: of prepared data, the pictures' rows; skipped:
    ids of its questions that are no items.
    """

    ids: Sequence[str]
    images: Sequence[str]
    answers: Sequence[Sequence[str]]
    common: Sequence[str]
    question_types: Sequence[str]
    answer_types: Sequence[str]
    asked: Sequence[str]
    subtype: str
    image_rows: Sequence[int] = ()
    skipped: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    def picture_files(self, place: int) -> list[str]:
        """Names that the picture's file may have."""
        return picture_names(self.images[place], self.subtype)


def read_vqa(annotations: Path, questions: Path | None) -> VqaItems:
    """UserError names the file, the row and the field."""
    subtype, found = read_answers(annotations)
    if not found:
        raise UserError(f"file {annotations}: there are no annotations")
    rows = list(found.values())
    return VqaItems(
        list(found),
        [row.image for row in rows],
        [row.answers for row in rows],
        [row.common for row in rows],
        [row.question_type for row in rows],
        [row.answer_type for row in rows],
        _asked(questions, list(found)) if questions else [""] * len(found),
        subtype or "val2014",
    )


def _asked(path: Path, ids: Sequence[str]) -> list[str]:
    """The questions of `ids`; there may be more."""
    found: Mapping[str, Asked] = read_questions(path)[1]
    if missing := [one for one in ids if one not in found]:
        raise UserError(
            f"file {path}: {len(missing):,} questions of the annotations are missing, the first: "
            f"{', '.join(missing[:FIRST])}: give the two files of one split"
        )
    return [found[one].question for one in ids]
