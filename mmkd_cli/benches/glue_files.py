"""GLUE's official result files: a TSV a task, `index` and `prediction`; labels by their names or numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches.result_files import in_order
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.columns import rows_of_file
from mmkd_cli.data.sources.fields import listed
from mmkd_cli.data.sources.text_parts import label_of


def read_predictions(
    path: Path, ids: Sequence[str], names: Sequence[str] | None, skipped: frozenset[str] = frozenset()
) -> NDArray[np.float64]:
    """What a file says of the texts `ids` [n]: numbers of `names`, or with None the numbers themselves.

    UserError where ids are missing, are not among these, or stand twice, and where a label is none of the names.
    skipped: ids that are not scored, and may be there.
    """
    if path.suffix != ".tsv":
        raise UserError(f"predictions {path}: GLUE's result files are .tsv, with the columns index and prediction")
    said, results = {}, []
    for where, row in rows_of_file(path, {"index": "", "prediction": ""}, ()):
        said[row["index"]] = (row["prediction"], where)
        results.append((row["index"], row["prediction"]))
    in_order(results, ids, path, "index", skipped)
    return np.array([_value(*said[one], names) for one in ids])


def _value(text: str, where: str, names: Sequence[str] | None) -> float:
    if names is not None:
        if (number := label_of(text, names, where)) < 0:
            raise UserError(f"{where}: prediction {text!r} is none of {listed(names)}")
        return float(number)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: prediction {text!r} is no number")
    return value
