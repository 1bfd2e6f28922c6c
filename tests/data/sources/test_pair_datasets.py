"""Pairs and texts in `datasets`: saved folders, folders of parquet, columns that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source

CAPTIONS = [["a", "b"], [], ["c"], ["d", "e", "f"]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def pairs(captions: list[Any], kind: Any) -> datasets.Dataset:
    columns = {"image": [{"bytes": jpeg(n), "path": None} for n in range(len(captions))], "caption": captions}
    features = datasets.Features({"image": datasets.Image(), "caption": kind})
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_lists_of_captions_are_texts_of_one_picture(tmp_path: Path, step: int) -> None:
    made = pairs(CAPTIONS, datasets.List(datasets.Value("string")))
    datasets.DatasetDict({"train": made, "test": made.select([3])}).save_to_disk(tmp_path / "d")
    found = source("image-text", annotations=tmp_path / "d")
    assert [row["image"] for row in rows(found, "images", step=step)] == [jpeg(n) for n in range(4)]
    assert [(r["text"], r["image_row"]) for r in rows(found, "texts", step=step)] == [
        ("a", 0), ("b", 0), ("c", 2), ("d", 3), ("e", 3), ("f", 3)
    ]  # fmt: skip
    assert len({r["text_id"] for r in rows(found, "texts")}) == 6
    assert [r["text"] for r in rows(found, "texts", "test")] == ["d", "e", "f"]


def test_a_caption_a_row_and_a_limit(tmp_path: Path) -> None:
    pairs(["x", "y", "z"], datasets.Value("string")).save_to_disk(tmp_path / "d")
    found = source("image-text", annotations=tmp_path / "d", limit=2)
    assert [(r["text"], r["image_row"]) for r in rows(found, "texts")] == [("x", 0), ("y", 1)]
    assert len(rows(found, "images")) == 2


def test_a_folder_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    pairs(["x", "y"], datasets.Value("string")).to_parquet(tmp_path / "d" / "train-0.parquet")
    found = source("image-text", annotations=tmp_path / "d")
    assert [row["image"] for row in rows(found, "images")] == [jpeg(0), jpeg(1)]
    assert found.identity() == source("image-text", annotations=tmp_path / "d").identity()


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    pairs(["x", "y"], datasets.Value("string")).save_to_disk(tmp_path / "d")
    for keys, said in (
        (
            {"caption_column": "captions"},
            r"no column 'captions', its columns are 'image', 'caption': .* source.caption_column=NAME",
        ),
        ({"image_column": "caption"}, "a datasets.Image is needed"),
        ({"caption_column": "image"}, "a text or a list of texts is needed"),
    ):
        with pytest.raises(UserError, match=said):
            source("image-text", annotations=tmp_path / "d", **keys)


def test_what_is_nowhere_says_what_to_name(tmp_path: Path) -> None:
    for name in ("nobody/nothing-of-this-name", str(tmp_path / "gone")):
        with pytest.raises(UserError, match=r"can't be opened by datasets|no folder and no hub id"):
            source("image-text", annotations=name)


def test_texts_of_datasets(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["one", "two", "three"], "n": [1, 2, 3]}).save_to_disk(tmp_path / "d")
    found = source("text", annotations=tmp_path / "d")
    assert [(r["text_id"], r["text"], r["image_row"]) for r in rows(found, "texts", step=2)] == [
        ("0", "one", -1), ("1", "two", -1), ("2", "three", -1)
    ]  # fmt: skip
    with pytest.raises(UserError, match="a text is needed"):
        source("text", annotations=tmp_path / "d", text_column="n")
