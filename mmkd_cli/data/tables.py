"""Tables of prepared data: their columns, and the small files by which `datasets.load_from_disk` knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core import paths
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.fingerprints import sha256_json

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_ROWS_AT_ONCE = 1000


def image_features(label_names: Sequence[str] = (), domains: bool = False) -> datasets.Features:
    """Columns of `images`; `label` where classes have names, `domain` where pictures are of several."""
    import datasets

    columns: dict[str, Any] = {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "width": datasets.Value("int32"),
        "height": datasets.Value("int32"),
        "source": datasets.Value("string"),
    }
    if label_names:
        columns["label"] = datasets.ClassLabel(names=list(label_names))
    if domains:
        columns["domain"] = datasets.Value("string")
    return datasets.Features(columns)


def text_features(more: Mapping[str, Any] | None = None) -> datasets.Features:
    """Columns of `texts`, and those that a source adds; image_row is a row of `images` in the same split, or -1."""
    import datasets

    text = datasets.Value("string")
    return datasets.Features({"text_id": text, "text": text, "image_row": datasets.Value("int64"), **(more or {})})


SECOND_PICTURE = "second_image_row"
"""Column of `questions` that are about two pictures."""


def question_features(pictures: int = 1) -> datasets.Features:
    """Columns of `questions`; `answers` is empty and the others of people's answers "" where a split has none.

    pictures: 2 adds the row of the second one.
    """
    import datasets

    text, row = datasets.Value("string"), datasets.Value("int64")
    return datasets.Features({
        "question_id": text, "question": text, "image_row": row, "question_type": text, "answer_type": text,
        "answer": text, "answers": datasets.List(text), **({SECOND_PICTURE: row} if pictures > 1 else {}),
    })  # fmt: skip


def instruction_features() -> datasets.Features:
    """Columns of `instructions`: viewpoints by name, the heading in radians from +y clockwise."""
    import datasets

    text = datasets.Value("string")
    return datasets.Features({
        "instruction_id": text, "instruction": text, "language": text, "scan": text, "path_id": text,
        "path": datasets.List(text), "heading": datasets.Value("float64"),
    })  # fmt: skip


def viewpoint_features() -> datasets.Features:
    """Columns of `viewpoints`: x, y, z in metres, z up; rows of this table that an edge leads to, ascending; the row of
    `images` where its 36 views begin, or -1."""
    import datasets

    text, row = datasets.Value("string"), datasets.Value("int64")
    return datasets.Features({
        "viewpoint_id": text, "scan": text, "viewpoint": text, "position": datasets.List(datasets.Value("float64")),
        "neighbours": datasets.List(row), "image_row": row,
    })  # fmt: skip


def text_table(split: str, columns: pa.Table) -> SourceTable:
    """`texts` of a split from columns in memory: text_id, text, image_row."""

    def read(first: int, last: int) -> Iterator[dict[str, Any]]:
        return rows_of(columns, first, last)

    return SourceTable("texts", split, columns.num_rows, text_features(), read)


def rows_of(columns: pa.Table, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Rows [first, last) as dictionaries, a thousand at a time."""
    for batch in columns.slice(first, last - first).to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def describe_split(folder: Path, split: str, features: datasets.Features, hashes: Mapping[str, str]) -> None:
    """Write state.json and dataset_info.json of a split. hashes: file -> XXH3-128 of its .arrow files, in order.

    The same files give the same bytes: `_fingerprint` is a hash of what the files hold.
    """
    info = {"citation": "", "description": "", "features": features.to_dict(), "homepage": "", "license": ""}
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in hashes],
        "_fingerprint": sha256_json(dict(hashes))[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    paths.write_json(folder / "state.json", state)
    paths.write_json(folder / "dataset_info.json", info)


def describe_table(folder: Path, splits: Sequence[str]) -> None:
    """Write dataset_dict.json of a table."""
    paths.write_json(folder / "dataset_dict.json", {"splits": list(splits)})
