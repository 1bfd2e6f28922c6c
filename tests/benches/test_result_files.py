"""Result files are matched by id; what does not match is refused with its count and the first three."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmkd_cli.benches.result_files import in_order, read_results
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.fields import split_named
from tests.benches.text_bench_files import write


def test_ids_are_numbers_or_texts_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write(file, [{"image_id": "7", "caption": "seven"}, {"image_id": 42, "caption": "", "extra": 1}])
    results = read_results(file, "image_id", "caption")
    assert results == [("7", "seven"), ("42", "")]
    assert in_order(results, ["42", "7"], file, "image_id") == ["", "seven"]
    lines = tmp_path / "r.jsonl"
    write(lines, '{"image_id": 42, "caption": "a"}\n\n{"image_id": 7, "caption": "b"}\n')
    assert read_results(lines, "image_id", "caption") == [("42", "a"), ("7", "b")]


def test_missing_extra_and_doubled_ids_are_counted_and_the_first_three_named() -> None:
    ids = [str(n) for n in range(1200)]
    results = [(one, "x") for one in ids[1100:]] + [(f"n{n}", "x") for n in range(4)] + [("1150", "y"), ("n0", "y")]
    with pytest.raises(UserError) as said:
        in_order(results, ids, Path("r.json"), "image_id")
    assert str(said.value) == (
        "predictions r.json, image_id: 1,100 of 1,200 are missing (the first: '0', '1', '2'); 4 are not in the "
        "annotations (the first: 'n0', 'n1', 'n2'); 2 stand there more than once (the first: '1150', 'n0'): give one "
        "line for each item of the annotations"
    )


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"caption": "a"}], "row 0: field 'image_id' is missing, it has 'caption'"),
        ([{"image_id": True, "caption": "a"}], "row 0, field 'image_id': a text is needed, not True"),
        ([{"image_id": 1, "caption": None}], "row 0, field 'caption': a text is needed, not None"),
        ([{"image_id": 1, "caption": "a"}, 3], "row 1: an object is needed, not 3"),
        ({"image_id": 1}, "a list is needed"),
    ],
)
def test_a_row_that_is_not_of_the_layout_is_named(tmp_path: Path, rows: object, complaint: str) -> None:
    write(tmp_path / "r.json", rows)
    with pytest.raises(UserError, match=complaint):
        read_results(tmp_path / "r.json", "image_id", "caption")


@pytest.mark.parametrize(
    ("name", "split"),
    [("captions_val2017.json", "val"), ("v2_mscoco_train2014_annotations.json", "train"),
     ("nocaps_val_4500.json", "val"), ("dataset_flickr8k.json", "x"), ("validation.json", "x"),
     ("my_test.json", "test"), (None, "x")],
)  # fmt: skip
def test_the_split_that_a_files_name_has(name: str | None, split: str) -> None:
    assert split_named(name and f"/a/test2015/{name}", "x") == split
