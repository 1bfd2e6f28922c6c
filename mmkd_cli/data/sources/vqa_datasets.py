"""VQA v2 and OK-VQA in `datasets`, as hubs have them: a row a question, with its picture.

Columns: image, question_id, image_id, question; where there are answers question_type, answer_type, answers (a list of
texts, or of {"answer"}) and multiple_choice_answer, without which the commonest answer stands in for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields, hub
from mmkd_cli.data.sources.vqa_files import with_problem
from mmkd_cli.data.tables import image_features, question_features

if TYPE_CHECKING:
    import datasets

    from mmkd_cli.data.sources.vqa import VqaConfig

_NEEDED = ("question_id", "image_id", "question")
_SAID = ("question_type", "answer_type", "multiple_choice_answer", "answers")
_SPLITS = {"testdev": "test_dev"}
_ROWS_AT_ONCE = 1000


class VqaDatasets:
    """Pictures, each once by its id, and questions; rows are read from the datasets' own files when written."""

    def __init__(self, config: VqaConfig, name: str) -> None:
        self._name, self._found = name, hub.open_datasets(name)
        parts: dict[str, list[datasets.Dataset]] = {}
        named = set()
        for split, part in self._found.items():
            where = f"--annotations {name!r}, split {split!r}"
            own = _SPLITS.get(split) or fields.usual_split(split, where)
            named.add(own)
            if (prepared := fields.prepared_split(own, config.train_splits, where)) is not None:
                parts.setdefault(prepared, []).append(_checked(part, where))
        fields.require_splits(config.train_splits, named, f"--annotations {name!r}")
        self._tables = [
            table
            for split, found in parts.items()
            for table in _tables(split, _joined(found, name), f"--annotations {name!r}, split {split!r}", config.limit)
        ]

    def missing(self) -> Iterator[str]:
        """Nothing is known to be missing before it is read."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files."""
        return {"datasets": hub.identity(self._name, self._found, memory)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `questions` of each split."""
        return self._tables


def _checked(part: datasets.Dataset, where: str) -> datasets.Dataset:
    """The columns that are read, the picture not decoded."""
    for name in _NEEDED:
        hub.column(part, name, where, "")
    part = hub.picture_column(part, "image", where, "")
    return part.select_columns(["image", *_NEEDED, *(name for name in _SAID if name in part.column_names)])


def _joined(parts: list[datasets.Dataset], name: str) -> datasets.Dataset:
    import datasets

    try:
        return datasets.concatenate_datasets(parts)
    except ValueError as error:
        raise UserError(f"--annotations {name!r}: splits that count as train have unlike columns ({error}): name one "
                        "of them by --train-splits") from None  # fmt: skip


def _tables(split: str, part: datasets.Dataset, where: str, limit: int) -> list[SourceTable]:
    """`images` and `questions` of a split."""
    part = part.select(range(min(limit, len(part)))) if limit else part
    ids = part.select_columns(["question_id", "image_id"]).with_format("arrow")[:].to_pylist()
    times = Counter[str]()
    first: dict[str, int] = {}
    image_rows = np.empty(len(ids), dtype=np.int64)
    shown: list[int] = []
    for place, row in enumerate(ids):
        at = f"{where}, row {place}"
        times[fields.id_of(row, "question_id", at)] += 1
        image = fields.id_of(row, "image_id", at)
        if image not in first:
            first[image] = len(shown)
            shown.append(place)
        image_rows[place] = first[image]
    if len(times) < len(ids):
        raise UserError(f"{where}: two questions have the question_id {times.most_common(1)[0][0]}: keep one of them")
    names, pictures = list(first), part.select_columns("image")
    questions = part.remove_columns("image").with_format("arrow")

    def images(begin: int, end: int) -> Iterator[dict[str, Any]]:
        for number in range(begin, end):
            yield hub.image_row(names[number], pictures[shown[number]]["image"])

    def asked(begin: int, end: int) -> Iterator[dict[str, Any]]:
        for start in range(begin, end, _ROWS_AT_ONCE):
            for place, row in enumerate(questions[start : min(start + _ROWS_AT_ONCE, end)].to_pylist(), start):
                yield with_problem({**_question(row, f"{where}, row {place}"), "image_row": int(image_rows[place])})

    return [
        SourceTable("images", split, len(names), image_features(), images),
        SourceTable("questions", split, len(ids), question_features(), asked),
    ]


def _question(row: dict[str, Any], where: str) -> dict[str, Any]:
    answers = _answers(row.get("answers"), f"{where}, column 'answers'")
    said = {name: fields.typed(row.get(name) or "", str, f"{where}, column {name!r}") for name in _SAID[:3]}
    common = said["multiple_choice_answer"] or (Counter(answers).most_common(1)[0][0] if answers else "")
    return {
        "question_id": fields.id_of(row, "question_id", where),
        "question": fields.typed(row["question"] or "", str, f"{where}, column 'question'"),
        "question_type": said["question_type"], "answer_type": said["answer_type"], "answer": common,
        "answers": answers,
    }  # fmt: skip


def _answers(value: Any, where: str) -> list[str]:
    """Texts of a list of them, of a list of {"answer"}, or of {"answer": list}; none where there is None."""
    if isinstance(value, dict):  # as older `datasets` store a list of objects
        value = fields.field(value, "answer", list, where)
    given = [fields.field(one, "answer", str, where) if isinstance(one, dict) else one
             for one in fields.typed(value or [], list, where)]  # fmt: skip
    return [fields.typed(one, str, where) for one in given]
