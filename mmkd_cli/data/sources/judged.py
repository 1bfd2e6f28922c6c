"""Statements and questions that have one right answer: GQA, SNLI-VE, NLVR2, NLVR, DAQUAR in their official files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.json_rows import json_rows

SNLI_VE_LABELS = ("contradiction", "neutral", "entailment")
NO_LABEL = "-"
"""SNLI's gold label of a pair on which people did not agree."""

PICTURE_FIELDS = ("Flickr30K_ID", "Flickr30kID", "Flikr30kID")
"""Spellings of SNLI-VE's field, across its releases."""


@dataclass(frozen=True)
class Judged:
    """An item. images: ids of its pictures. groups: kind of item -> name, each a row of the scores' `by`.

    sentence: what items of one sentence share (NLVR's consistency), else empty. rows: of prepared data, the pictures'.
    """

    id: str
    asked: str
    answer: str
    images: tuple[str, ...]
    groups: Mapping[str, str] = field(default_factory=dict)
    sentence: str = ""
    rows: tuple[int, ...] = ()


def read_gqa(path: Path) -> tuple[list[Judged], frozenset[str]]:
    """GQA's questions JSON; of `all` files the balanced ones are items, and the ids of the others come second."""
    items, others = [], []
    for one, value in fields.read_document(path).items():
        where = f"file {path}, question {one!r}"
        row = fields.typed(value, dict, where)
        if not fields.field(row, "isBalanced", bool, where):
            others.append(one)
            continue
        types = fields.field(row, "types", dict, where)
        kinds = {name: fields.field(types, name, str, where) for name in ("structural", "semantic")}
        groups = {"answer": "open" if kinds["structural"] == "query" else "binary", **kinds}
        items.append(Judged(one, *_texts(row, ("question", "answer"), where), (fields.id_of(row, "imageId", where),),
                            groups))  # fmt: skip
    return _some(items, path), frozenset(others)


def read_snli_ve(path: Path) -> tuple[list[Judged], frozenset[str]]:
    """SNLI-VE's JSON lines; pairs without an agreed label are no items, their ids come second."""
    items, others = [], []
    for where, row in json_rows(path):
        one, text, label = _texts(row, ("pairID", "sentence2", "gold_label"), where)
        if label == NO_LABEL:
            others.append(one)
            continue
        if label not in SNLI_VE_LABELS:
            raise UserError(f"{where}, field 'gold_label': {label!r} is none of {', '.join(SNLI_VE_LABELS)}")
        items.append(Judged(one, text, label, (_picture_of(row, one, where),), {"label": label}))
    return _some(items, path), frozenset(others)


def _picture_of(row: dict[str, Any], pair: str, where: str) -> str:
    """A pair's photo; its id begins with the photo's name."""
    for name in PICTURE_FIELDS:
        if name in row:
            return Path(fields.id_of(row, name, where)).stem
    return pair.partition(".jpg")[0]


def read_nlvr2(path: Path) -> tuple[list[Judged], frozenset[str]]:
    """NLVR2's JSON lines: SPLIT-SET-PAIR-SENTENCE, a statement about two pictures."""
    items = []
    for where, row in _nlvr_rows(path):
        one, text, label = _texts(row, ("identifier", "sentence", "label"), where)
        parts = one.split("-")
        if len(parts) != 4:
            raise UserError(f"{where}, field 'identifier': {one!r} is not SPLIT-SET-PAIR-SENTENCE")
        pair = "-".join(parts[:3])
        items.append(Judged(one, text, truth(label, where), (f"{pair}-img0", f"{pair}-img1"),
                            sentence="-".join([*parts[:2], parts[3]])))  # fmt: skip
    return _some(items, path), frozenset()


def read_nlvr(path: Path) -> tuple[list[Judged], frozenset[str]]:
    """NLVR's JSON lines (or a list): SENTENCE-SET, a statement about a drawn picture, which has several orders."""
    items = []
    for where, row in _nlvr_rows(path):
        one, text, label = _texts(row, ("identifier", "sentence", "label"), where)
        items.append(Judged(one, text, truth(label, where), (one,), sentence=one.rpartition("-")[0]))
    return _some(items, path), frozenset()


def read_daquar(path: Path, photos: Path | None) -> tuple[list[Judged], frozenset[str]]:
    """DAQUAR's lines: a question that names its photo, then its answer; several are parted by commas.

    photos: a list of names, a line each; questions about others are no items. An item's id is its place, from 0.
    """
    kept = {line.strip() for line in plain_text(photos).splitlines() if line.strip()} if photos else None
    lines = [line.strip() for line in plain_text(path).splitlines() if line.strip()]
    if len(lines) % 2:
        raise UserError(f"file {path}: {len(lines):,} lines: a question and an answer in turn are needed")
    items, others = [], []
    for place, (asked, answer) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        photo = next((word for word in reversed(asked.split()) if word.startswith("image")), "")
        if not photo:
            raise UserError(f"file {path}, line {2 * place + 1}: the question names no photo (image1 and so on)")
        if kept is not None and photo not in kept:
            others.append(str(place))
        else:
            items.append(Judged(str(place), asked, answer, (photo,)))
    return _some(items, path), frozenset(others)


def _texts(row: dict[str, Any], names: Sequence[str], where: str) -> Iterator[str]:
    return (fields.field(row, name, str, where) for name in names)


def truth(text: str, where: str) -> str:
    """ "true" or "false", however it is written."""
    if (low := text.lower()) not in ("true", "false"):
        raise UserError(f"{where}: {text!r} is neither True nor False")
    return low


def _nlvr_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The release's .json files hold JSON lines."""
    lines = path.is_file() and path.open(encoding="utf-8-sig").read(64).lstrip().startswith("{")
    return json_rows(path, lines=lines)


def _some(items: list[Judged], path: Path) -> list[Judged]:
    if not items:
        raise UserError(f"file {path}: there is nothing to score")
    return items


def plain_text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"file {path} is not there")
    if path.stat().st_size > fields.MOST_JSON_BYTES:
        raise UserError(f"file {path} has more than {fields.MOST_JSON_BYTES:,} bytes: it can't be such a file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"file {path} is not UTF-8: save it as UTF-8") from None
