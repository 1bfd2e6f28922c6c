"""Texts, or pairs of texts, with labels: names as the data have them, and a number for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmkd_cli.core.contracts import TrainingData
from mmkd_cli.core.errors import UserError

COLUMN = "label"
SECOND = "text_b"


class Labels(NamedTuple):
    """names: of the classes, None where labels are numbers to be met. values [rows]: class or number, NaN without."""

    names: list[str] | None
    values: np.ndarray


def read_labels(table: Any, where: str, known: Sequence[str] | None = None) -> Labels:
    """The column `label`: a ClassLabel (-1: none), texts ("": none), whole numbers, or numbers to be met.

    known: names of the training data. Texts and whole numbers without them are named in their order.
    """
    import datasets

    feature = table.features[COLUMN]
    column = table.select_columns([COLUMN]).with_format("arrow")[:].column(COLUMN)
    if isinstance(feature, datasets.ClassLabel):
        values = column.to_numpy().astype(np.float32)
        values[~(values >= 0)] = np.nan
        return Labels(list(feature.names), values)
    kind = str(getattr(feature, "dtype", ""))
    if kind.startswith(("float", "double")):
        return Labels(None, column.to_numpy().astype(np.float32))
    if kind not in ("string", "large_string") and not kind.startswith(("int", "uint", "bool")):
        raise UserError(f"{where}: column {COLUMN!r} holds {feature}: a class's name or number, or a number is needed")
    said = column.unique().to_pylist()
    there = [one for one in said if one not in (None, "")]
    names = list(known) if known is not None else [str(one) for one in sorted(there)]
    odd = [one for one in there if str(one) not in names]
    if odd:
        raise UserError(f"{where}: label {odd[0]!r} is not among those of the training rows ({', '.join(names)})")
    place: dict[str, float] = {name: float(number) for number, name in enumerate(names)}
    coded = column.dictionary_encode().combine_chunks()
    numbers = np.array([place.get(str(one), np.nan) for one in coded.dictionary.to_pylist()] + [np.nan], np.float32)
    return Labels(names, numbers[np.asarray(coded.indices.fill_null(-1))])


def same_names(data: Sequence[TrainingData], found: Sequence[Labels]) -> list[str] | None:
    """The names that all data have; UserError where they differ."""
    first = found[0].names
    for one, other in zip(data[1:], found[1:], strict=True):
        if other.names != first:
            raise UserError(
                f"data {one.name!r} has other labels ({_said(other.names)}) than {data[0].name!r} ({_said(first)}): "
                "train on data of one task"
            )
    return first


def has_text(column: Any) -> np.ndarray:
    """bool [rows] of an Arrow column of strings: whether there is anything in it."""
    import pyarrow.compute as pc

    filled: np.ndarray = pc.fill_null(pc.greater(pc.binary_length(column), 0), False).to_numpy()
    return filled


def has_seconds(table: Any) -> bool:
    """Whether a table of texts is one of pairs: GLUE's tasks of one sentence have an empty second one."""
    if SECOND not in table.column_names:
        return False
    return bool(has_text(table.select_columns([SECOND]).with_format("arrow")[:].column(SECOND)).any())


def _said(names: Sequence[str] | None) -> str:
    return "numbers" if names is None else ", ".join(names)
