"""What prepared data hold to compare written texts with: people's answers, captions, summaries, rewritings.

They stand in for a bench's own files. Rejected rows are no items.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmkd_cli.benches.caption_files import CaptionItems
from mmkd_cli.benches.text_files import References
from mmkd_cli.benches.vqa_files import VqaItems
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.sources.judged import Judged
from mmkd_cli.data.tables import SECOND_PICTURE


def prepared_answers(data: Any, split: str) -> VqaItems:
    """Items of a split's table `questions`; UserError where nobody answered them."""
    table = _columns(data, split, "questions", ["question_id", "image_row", "answers"])
    pictures = _ids(data, split)
    lost = {*data.rejected(split, "images").tolist()}
    kept = [
        row for row in _kept(data, split, "questions", len(table["question_id"])) if table["image_row"][row] not in lost
    ]
    if not any(table["answers"][row] for row in kept):
        raise UserError(f"{data.artifact.label}: {split!r} has questions without answers, which can't be scored: name "
                        "another --split, or hand the result file to the organisers")  # fmt: skip
    for row in kept:
        if not table["answers"][row]:
            raise UserError(f"{data.artifact.label}: question {table['question_id'][row]} of {split!r} has no answers")

    def column(name: str) -> list[Any]:
        return [table[name][row] for row in kept]

    rows = column("image_row")
    return VqaItems(
        column("question_id"), [pictures[row] for row in rows], column("answers"), column("answer"),
        column("question_type"), column("answer_type"), column("question"), "", rows,
        skipped=frozenset({*table["question_id"]} - {*column("question_id")}),
    )  # fmt: skip


def prepared_judged(data: Any, split: str) -> tuple[list[Judged], frozenset[str]]:
    """Items of a split's table `questions` that have one right answer, as `data.sources.statements` writes it; ids of
    the rows that are none. question_type is the kind of a question, or what items of one sentence share."""
    table = _columns(data, split, "questions", ["question_id", "image_row", "answer"])
    pictures, seconds = _ids(data, split), table.get(SECOND_PICTURE)
    lost = {*data.rejected(split, "images").tolist()}
    items = []
    for row in _kept(data, split, "questions", len(table["question_id"])):
        rows = [table["image_row"][row], *([seconds[row]] if seconds else [])]
        if lost.isdisjoint(rows) and table["answer"][row]:
            kinds = {"structural": table["question_type"][row], "answer": table["answer_type"][row]}
            items.append(Judged(
                table["question_id"][row], table["question"][row], table["answer"][row],
                tuple(pictures[one] for one in rows), {kind: name for kind, name in kinds.items() if name},
                table["question_type"][row], tuple(rows),
            ))  # fmt: skip
    if not items:
        raise UserError(f"{data.artifact.label}: no question of {split!r} has an answer: name another --split")
    return items, frozenset({*table["question_id"]} - {one.id for one in items})


def prepared_captions(data: Any, split: str) -> CaptionItems:
    """Pictures of a split with their captions, and their domains where there are any."""
    texts = _columns(data, split, "texts", ["text", "image_row"])
    table: Any = data.table("images", split)
    ids = _ids(data, split)
    domains = table.select_columns("domain")[:]["domain"] if "domain" in table.column_names else [""] * len(ids)
    captions: list[list[str]] = [[] for _ in ids]
    for row in _kept(data, split, "texts", len(texts["text"])):
        if texts["image_row"][row] >= 0:
            captions[texts["image_row"][row]].append(texts["text"][row])
    kept = _kept(data, split, "images", len(ids))
    without = [ids[row] for row in kept if not captions[row]]
    if without:
        raise UserError(
            f"{data.artifact.label}: {len(without):,} pictures of {split!r} have no caption to be compared with (the "
            f"first: {without[0]!r}): give --annotations, or name another --split"
        )
    names = [ids[row] for row in kept]
    return CaptionItems(
        names, [captions[row] for row in kept], names, [domains[row] for row in kept], kept,
        frozenset({*ids} - {*names}),
    )  # fmt: skip


def prepared_texts(data: Any, split: str, column: str) -> tuple[References, frozenset[str]]:
    """(id, references) of a split's `texts`, from a column of texts or of lists of texts; ids of the rejected rows."""
    table = _columns(data, split, "texts", ["text_id", column])
    found: References = []
    kept = _kept(data, split, "texts", len(table["text_id"]))
    for row in kept:
        value = table[column][row]
        found.append((table["text_id"][row], value if isinstance(value, list) else [value] if value else []))
    without = [one for one, references in found if not references]
    if without:
        raise UserError(
            f"{data.artifact.label}: {len(without):,} texts of {split!r} have no {column} (the first: {without[0]!r}): "
            "give --annotations, or name another --split"
        )
    return found, frozenset({*table["text_id"]} - {one for one, _ in found if one is not None})


def _columns(data: Any, split: str, table: str, needed: list[str]) -> dict[str, list[Any]]:
    found: Any = data.table(table, split)
    for name in needed:
        if name not in found.column_names:
            raise UserError(
                f"{data.artifact.label}: table {table!r} has no column {name!r}{nearest(name, found.column_names)}: "
                "give --annotations, or data that were prepared from the bench's own files"
            )
    columns: dict[str, list[Any]] = found[:]
    return columns


def _ids(data: Any, split: str) -> list[str]:
    found: list[str] = data.table("images", split).select_columns("image_id")[:]["image_id"]
    return found


def _kept(data: Any, split: str, table: str, rows: int) -> list[int]:
    """Rows that hold something."""
    return np.setdiff1d(np.arange(rows), data.rejected(split, table)).tolist()  # type: ignore[no-any-return]
