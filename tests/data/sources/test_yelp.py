"""Yelp: the files of two styles with people's rewritings, and labelled tables."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from mmkd_cli.core.errors import UserError
from tests.data.sources.reading import rows, source


def styles(folder: Path) -> Path:
    for style, words in enumerate(("bad", "good")):
        (folder / f"sentiment.train.{style}").write_text(f"it is {words} .\nso {words} .\n")
        (folder / f"sentiment.test.{style}").write_text(f"the food is {words} .\n")
    (folder / "reference.0").write_text("the food is bad .\tthe food is good .\tgood food .\n")
    (folder / "reference.1").write_text("the food is good .\tthe food is bad .\n")
    return folder


def test_both_styles_with_references_of_the_test_split(tmp_path: Path) -> None:
    found = source("yelp", annotations=styles(tmp_path))
    assert {(t.split, t.rows) for t in found.tables()} == {("train", 4), ("test", 2)}
    assert rows(found, "texts", "test", step=1) == [
        {"text_id": "0", "text": "the food is bad .", "label": 0, "image_row": -1,
         "references": ["the food is good .", "good food ."]},
        {"text_id": "1", "text": "the food is good .", "label": 1, "image_row": -1,
         "references": ["the food is bad ."]},
    ]  # fmt: skip
    assert [(r["label"], r["references"]) for r in rows(found, "texts")] == [(0, []), (0, []), (1, []), (1, [])]
    before = found.identity()
    (tmp_path / "reference.1").write_text("awful .\n")  # rewritings alone
    again = source("yelp", annotations=tmp_path)
    assert rows(again, "texts", "test")[1]["references"] == ["awful ."] and again.identity() != before
    (tmp_path / "reference.1").write_text("the meal is good .\tawful .\n")
    with pytest.raises(UserError, match=r"reference.1, line 1: it rewrites 'the meal is good .'"):
        source("yelp", annotations=tmp_path)
    (tmp_path / "reference.1").write_text("a\tb\nc\td\n")
    with pytest.raises(UserError, match=r"reference.1 has 2 lines, .*sentiment.test.1 1"):
        source("yelp", annotations=tmp_path)


def test_tables_and_datasets(tmp_path: Path) -> None:
    lines = [{"text": "bad", "label": 0, "references": ["good"]}, {"text": "good", "label": "positive"}, {"text": "so"}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = rows(source("yelp", annotations=tmp_path / "test.jsonl"), "texts", "test")
    assert [(r["label"], r["references"]) for r in found] == [(0, ["good"]), (1, []), (-1, [])]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/dev.csv").write_text("text,label,reference\nbad,0,good\n")
    assert rows(source("yelp", annotations=tmp_path / "csv"), "texts", "val")[0]["references"] == ["good"]
    reviews = {"text": ["no\nnever", "yes"], "label": [0, 1]}
    kind = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["1", "2"])})
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(reviews, kind)}).save_to_disk(tmp_path / "saved")
    assert [r["label"] for r in rows(source("yelp", annotations=tmp_path / "saved"), "texts", step=1)] == [0, 1]
    for wrong, said in (
        ({"text": "a", "label": 2}, "label 2 is none of"),
        ({"text": "a", "references": "b"}, "column 'references': a list is needed"),
        ({"txt": "a"}, r"no column 'text'.*did you mean 'txt'"),
    ):
        (tmp_path / "test.jsonl").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=said):
            source("yelp", annotations=tmp_path / "test.jsonl")
