"""Karpathy's JSON and COCO's official captions: rows, splits, ids and order of the file; wrong fields are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source


def karpathy(folder: Path, images: list[dict[str, Any]], made: bool = True) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for number, image in enumerate(images):
        if made:
            path = folder / "images" / image.get("filepath", "") / image["filename"]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(jpeg(number))
    (folder / "set.json").write_text(json.dumps({"images": images, "dataset": "made"}))
    return folder / "set.json"


def image(name: str, split: str, *ids: int, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": f"text {n}", "sentid": n, "tokens": []} for n in ids]
    return {"filename": name, "split": split, "sentences": sentences, **more}


THREE = [image("a.jpg", "train", 0, 1), image("b.jpg", "restval", 2), image("c.jpg", "train", 3)]


def test_rows_splits_and_ids_are_the_files(tmp_path: Path) -> None:
    found = source("flickr8k", images=tmp_path / "images", annotations=karpathy(tmp_path, THREE))
    assert [(t.name, t.split, t.rows) for t in found.tables()] == [
        ("images", "train", 2), ("images", "restval", 1), ("texts", "train", 3), ("texts", "restval", 1)
    ]  # fmt: skip
    assert [row["image_id"] for row in rows(found, "images")] == ["a", "c"]
    assert Path(rows(found, "images")[1]["image"]) == tmp_path / "images" / "c.jpg"
    assert rows(found, "texts", step=2) == [
        {"text_id": "0", "text": "text 0", "image_row": 0},
        {"text_id": "1", "text": "text 1", "image_row": 0},
        {"text_id": "3", "text": "text 3", "image_row": 1},
    ]


def test_splits_that_count_as_train_keep_the_files_order(tmp_path: Path) -> None:
    file = karpathy(tmp_path, THREE)
    found = source("flickr30k", images=tmp_path / "images", annotations=file, train_splits=["train", "restval"])
    assert [row["image_id"] for row in rows(found, "images")] == ["a", "b", "c"]
    assert [row["image_row"] for row in rows(found, "texts")] == [0, 0, 1, 2]
    with pytest.raises(UserError, match=r"'resval' is no split .*did you mean 'restval'"):
        source("flickr30k", images=tmp_path / "images", annotations=file, train_splits=["train", "resval"])


def test_a_train_split_that_is_not_listed_is_left_out(tmp_path: Path) -> None:
    images = [*THREE, image("d.jpg", "val", 4)]
    found = source("coco", images=tmp_path / "images", annotations=karpathy(tmp_path, images), train_splits=["restval"])
    assert [(t.name, t.split, t.rows) for t in found.tables()] == [
        ("images", "train", 1), ("images", "val", 1), ("texts", "train", 1), ("texts", "val", 1)
    ]  # fmt: skip
    assert [row["image_id"] for row in rows(found, "images")] == ["b"]


def test_coco_has_official_ids_in_nested_or_flat_folders(tmp_path: Path) -> None:
    images = [image("x.jpg", "train", 7, cocoid=391895, filepath="train2014")]
    found = source("coco", images=tmp_path / "images", annotations=karpathy(tmp_path, images))
    assert rows(found, "images")[0]["image_id"] == "391895" and not list(found.missing())
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "x.jpg").write_bytes(jpeg(0))
    same = source("coco", images=flat, annotations=tmp_path / "set.json")
    assert not list(same.missing()) and rows(same, "images")[0]["source"] == "train2014/x.jpg"
    assert same.identity() == found.identity()


def official(folder: Path, name: str, captions: list[tuple[int, int]]) -> None:
    """captions: (caption id, image id)."""
    (folder / name).write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in (30, 10, 20)],
        "annotations": [{"id": c, "image_id": i, "caption": f"caption {c}"} for c, i in captions],
    }))  # fmt: skip


def test_official_captions_in_the_order_of_the_file(tmp_path: Path) -> None:
    official(tmp_path, "captions_val2017.json", [(5, 10), (3, 30), (4, 10)])
    official(tmp_path, "captions_train2017.json", [(9, 20)])
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "000000000010.jpg").write_bytes(jpeg(0))
    one = source("coco", images=tmp_path, annotations=tmp_path / "captions_val2017.json")
    assert [row["image_id"] for row in rows(one, "images", "val")] == ["30", "10", "20"]
    assert [(r["text_id"], r["image_row"]) for r in rows(one, "texts", "val")] == [("5", 1), ("3", 0), ("4", 1)]
    assert sorted(Path(path).name for path in one.missing()) == ["000000000020.jpg", "000000000030.jpg"]
    both = source("coco", images=tmp_path, annotations=tmp_path)
    assert [t.split for t in both.tables() if t.name == "texts"] == ["train", "val"]
    first = source("coco", images=tmp_path, annotations=tmp_path / "captions_val2017.json", limit=1)
    assert [r["text_id"] for r in rows(first, "texts", "val")] == ["3"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "an object is needed"),
        ({"image": []}, "field 'images' is missing, it has 'image'"),
        ({"images": {}}, "field 'images': a list is needed"),
        ({"images": [3]}, r"images\[0\]: an object is needed, not 3"),
        ({"images": [image("a.jpg", "train", 0), {"filename": "b.jpg", "spilt": "train"}]},
         r"images\[1\]: field 'split' is missing, it has .*'spilt'"),
        ({"images": [{**image("a.jpg", "train"), "sentences": [{"raw": ["x"], "sentid": 1}]}]},
         r"images\[0\], sentences\[0\], field 'raw': a text is needed"),
        ({"images": [{**image("a.jpg", "train"), "sentences": [{"raw": "x", "sentid": True}]}]}, "a whole number"),
        ({"images": [image("../../etc/passwd", "train")]}, r"images\[0\]: path '../../etc/passwd' leaves its folder"),
        ({"images": [image("/etc/passwd", "train")]}, "leaves its folder"),
        ({"images": [image("a.jpg", "train", filepath="../up")]}, "leaves its folder"),
        ({"images": [image("a.jpg", "../train")]}, "can't be a split's name"),
        ({"images": [image("a.jpg", "")]}, "can't be a split's name"),
        ({"images": [image("a.jpg", "test-dev")]}, "'test-dev' can't be a split's name"),  # `datasets` opens none such
    ],
)  # fmt: skip
def test_wrong_fields_are_named(tmp_path: Path, document: Any, said: str) -> None:
    (tmp_path / "set.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=said) as error:
        source("flickr8k", images=tmp_path, annotations=tmp_path / "set.json")
    assert str(tmp_path / "set.json") in str(error.value)


def test_deep_json_and_no_json_are_one_line(tmp_path: Path) -> None:
    for text in ("[" * 200_000, "{", "\udcff"):
        (tmp_path / "set.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match="is not JSON"):
            source("flickr8k", images=tmp_path, annotations=tmp_path / "set.json")


names = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), unique=True, min_size=1, max_size=12)


@settings(deadline=None)
@given(names, st.data())
def test_every_image_is_read_once(tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: Any) -> None:
    folder = tmp_path_factory.mktemp("karpathy")
    images, texts = [], 0
    for name in ids:
        count = data.draw(st.integers(0, 3))
        images.append(image(f"{name}.png", data.draw(st.sampled_from(["train", "val"])), *range(texts, texts + count)))
        texts += count
    found = source("flickr8k", images=folder / "images", annotations=karpathy(folder, images, made=False))
    for split in {one["split"] for one in images}:
        mine = [one for one in images if one["split"] == split]
        assert [r["image_id"] for r in rows(found, "images", split, step=3)] == [o["filename"][:-4] for o in mine]
        expected = [(str(s["sentid"]), place) for place, one in enumerate(mine) for s in one["sentences"]]
        assert [(r["text_id"], r["image_row"]) for r in rows(found, "texts", split, step=2)] == expected
    assert len(list(found.missing())) == len(images)
