"""VQA v2 and OK-VQA in official JSON files, and COCO's pictures in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.picture_files import PictureFiles, folder_of, listing, locate
from mmkd_cli.data.sources.vqa_json import Answered, picture_names, read_answers, read_questions
from mmkd_cli.data.tables import question_features, rows_of

if TYPE_CHECKING:
    from mmkd_cli.data.sources.vqa import VqaConfig

_NAMED = 3
"""Ids that an error names."""
_NO_ANSWER = Answered("", "", "", "", [])


@dataclass
class _Split:
    """Columns of a split as they are read. subtypes: of each picture, part of its file's name."""

    image_row: dict[str, int] = field(default_factory=dict)
    subtypes: list[str] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in question_features()})


class VqaFiles:
    """`images`, each once, and `questions` of each split, in the official order."""

    def __init__(self, config: VqaConfig, images: str, questions: str) -> None:
        self.config = config
        folder = folder_of(images, "--images")
        self._questions = _files(questions, "--questions", "*questions.json")
        self._annotations = _files(config.annotations, "--annotations", "*annotations.json")
        answers: dict[str, dict[str, Answered]] = {}
        for path in self._annotations:
            subtype, found = read_answers(path)
            if subtype in answers:
                raise UserError(f"file {path}: another file has the answers of {subtype!r}, too: name one of them")
            answers[subtype] = found
        splits: dict[str, _Split] = {}
        named = set()
        for path in self._questions:
            subtype, asked = read_questions(path)
            name = re.sub(r"\d{4}$", "", subtype).replace("-", "_") or fields.split_named(path.name, "train")
            named.add(name)
            given = answers.pop(subtype, None)
            if (prepared := fields.prepared_split(name, config.train_splits, f"file {path}")) is not None:
                self._add(splits.setdefault(prepared, _Split()), path, subtype, asked, given)
        if answers:
            raise UserError(f"--annotations {config.annotations!r} has answers of {', '.join(answers) or 'a split'}, "
                            "of which --questions has no file: name the questions of the same split")  # fmt: skip
        fields.require_splits(config.train_splits, named, questions)
        self._splits = splits
        self._pictures = [_located(name, split, folder) for name, split in splits.items()]

    def _add(
        self, split: _Split, path: Path, subtype: str, asked: Mapping[str, Any], answers: Mapping[str, Answered] | None
    ) -> None:
        if answers is not None:
            _require_same_questions(path, asked, answers)
        doubled = set(split.columns["question_id"]) & asked.keys()
        if doubled:
            raise UserError(f"file {path}: question {min(doubled)} is in another file of the split, too: keep one")
        kept = list(asked.items())[
            : self.config.limit - len(split.columns["question_id"]) if self.config.limit else None
        ]
        for one, (image, question) in kept:
            said = answers[one] if answers is not None else _NO_ANSWER
            if image not in split.image_row:
                fields.inner_path(image, f"file {path}, question {one}, field 'image_id'")
                split.image_row[image] = len(split.subtypes)
                split.subtypes.append(subtype)
            values = (one, question, split.image_row[image], said.question_type, said.answer_type, said.common,
                      said.answers)  # fmt: skip
            for column, value in zip(split.columns.values(), values, strict=True):
                column.append(value)

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are asked about and not there."""
        for pictures in self._pictures:
            yield from pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the official files; listing of the pictures."""
        files = {"questions": self._questions, "annotations": self._annotations}
        found = {name: [sha256_file(path, memory) for path in paths] for name, paths in files.items()}
        return {**found, "images": listing(self._pictures)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `questions` of each split."""
        return [
            *(pictures.table() for pictures in self._pictures),
            *(question_table(name, split.columns) for name, split in self._splits.items()),
        ]


def question_table(split: str, columns: Mapping[str, Sequence[Any]]) -> SourceTable:
    """`questions` of a split from its columns in memory."""
    import pyarrow as pa

    schema = question_features().arrow_schema
    table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})

    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        for row in rows_of(table, first, last):
            yield with_problem(row)

    return SourceTable("questions", split, table.num_rows, question_features(), read)


def with_problem(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `questions`; of an empty question with its `problem`."""
    return row if row["question"].strip() else {**row, "problem": "the question is empty"}


def _files(place: str | None, flag: str, pattern: str) -> list[Path]:
    """A file, or those of a folder that the pattern fits, in the order of their names."""
    if place is None:
        return []
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{flag} {place!r} is not there: name the official JSON, or a folder of them")
    if not (found := sorted(path.glob(pattern))):
        raise UserError(f"{flag} {place!r} holds no {pattern}: name the file itself")
    return found


def _require_same_questions(path: Path, asked: Mapping[str, Any], answers: Mapping[str, Answered]) -> None:
    """UserError unless the answers are those to these questions, about the same pictures."""
    for odd, said in (
        ([one for one in asked if one not in answers], "have no answers in --annotations"),
        ([one for one in answers if one not in asked], "of --annotations are not asked there"),
        (
            [one for one in asked if one in answers and answers[one].image != asked[one].image],
            "are of other pictures in --annotations",
        ),
    ):
        if odd:
            raise UserError(
                f"file {path}: {len(odd):,} questions {said} (the first: {', '.join(odd[:_NAMED])}): give the two "
                "files of one split"
            )


def _located(name: str, split: _Split, folder: Path) -> PictureFiles:
    """The split's pictures by whichever official name they have in the folder, or in its folder of the COCO part."""
    import pyarrow as pa

    ids, of = list(split.image_row), [re.sub(r"-dev(?=\d{4}$)", "", one) for one in split.subtypes]
    names = [picture_names(image, subtype) for image, subtype in zip(ids, of, strict=True)]
    found: PictureFiles | None = None
    for way in range(max(map(len, names), default=0)):
        chosen = [several[min(way, len(several) - 1)] for several in names]
        inside = {subtype: f"{subtype}/" if subtype and (folder / subtype).is_dir() else "" for subtype in set(of)}
        files = [inside[subtype] + file for subtype, file in zip(of, chosen, strict=True)]
        columns = {"image_id": pa.array(ids, pa.string()), "file": pa.array(files, pa.string()),
                   "source": pa.array(chosen, pa.string())}  # fmt: skip
        located = locate(name, columns, [folder])
        if (located.sizes >= 0).any():
            return located
        found = found or located
    return found or locate(
        name, {column: pa.array([], pa.string()) for column in ("image_id", "file", "source")}, [folder]
    )
