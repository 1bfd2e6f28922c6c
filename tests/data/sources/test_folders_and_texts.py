"""Class folders, text files and the built-in world as sources."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from mmkd_cli import scenes
from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source


def fill(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(number))
    return root


def test_classes_and_splits_are_folders(tmp_path: Path) -> None:
    names = ("train/dog/2.jpg", "train/cat/1.JPG", "train/dog/deep/1.jpg", "train/cat/._1.jpg", "test/dog/9.png")
    root = fill(tmp_path, *names)
    (root / "train" / "cat" / "notes.txt").write_text("no picture")
    found = source("image-folder", images=root)
    assert [(r["image_id"], r["label"]) for r in rows(found, "images")] == [
        ("cat/1", 0), ("dog/2", 1), ("dog/deep/1", 1)
    ]  # fmt: skip
    assert [(r["image_id"], r["label"]) for r in rows(found, "images", "test")] == [("dog/9", 1)]
    assert found.tables()[0].features["label"].names == ["cat", "dog"]
    assert len(rows(source("image-folder", images=root, limit=1), "images")) == 2


def test_a_folder_without_splits_or_classes(tmp_path: Path) -> None:
    classes = source("image-folder", images=fill(tmp_path / "a", "x/1.jpg", "y/1.jpg"))
    assert [r["label"] for r in rows(classes, "images")] == [0, 1]
    flat = source("image-folder", images=fill(tmp_path / "b", "1.jpg", "2.jpg", "2.png"))
    assert [r["image_id"] for r in rows(flat, "images")] == ["1.jpg", "2.jpg", "2.png"]
    assert "label" not in flat.tables()[0].features
    with pytest.raises(UserError, match=r"'1.jpg' lies beside class folders"):
        source("image-folder", images=fill(tmp_path / "c", "1.jpg", "x/2.jpg"))
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        source("image-folder", images=tmp_path / "d")


def test_real_flowers(real_data: Path) -> None:
    found = source("image-folder", images=real_data / "flowers5")
    assert {(t.split, t.rows) for t in found.tables()} == {("train", 400), ("test", 100)}
    assert np.bincount([r["label"] for r in rows(found, "images", "test")]).sum() == 100


def test_lines_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\ufeffone\n\n  two  \r\nthree", encoding="utf-8")
    (tmp_path / "val.jsonl").write_text('{"text": "four", "x": [1]}\n')
    found = source("text", annotations=tmp_path)
    assert [(r["text_id"], r["text"]) for r in rows(found, "texts", step=2)] == [
        ("0", "one"),
        ("1", "two"),
        ("2", "three"),
    ]
    assert rows(found, "texts", "val") == [{"text_id": "0", "text": "four", "image_row": -1}]
    one = source("text", annotations=tmp_path / "train.txt", limit=2)
    assert [r["text"] for r in rows(one, "texts")] == ["one", "two"]


@pytest.mark.parametrize("form", ["txt", "jsonl", "datasets"])
def test_texts_are_packed_in_their_order(tmp_path: Path, form: str) -> None:
    texts = [letter * length for letter, length in zip("abcdefgh", (3, 4, 3, 12, 1, 1, 8, 10), strict=True)]
    place = tmp_path / f"train.{form}"
    if form == "datasets":
        DatasetDict({"train": Dataset.from_dict({"text": texts})}).save_to_disk(place)
    else:
        place.write_text("\n".join(texts if form == "txt" else (json.dumps({"text": text}) for text in texts)))
    found = source("text", annotations=place, pack=10)
    assert [(r["text_id"], r["text"]) for r in rows(found, "texts", step=2)] == [
        ("0", "aaa\nbbbb"), ("2", "ccc"), ("3", "d" * 12), ("4", "e\nf"), ("6", "g" * 8), ("7", "h" * 10)
    ]  # fmt: skip
    exact = rows(source("text", annotations=place, pack=12, limit=3), "texts")
    assert [r["text"] for r in exact] == ["aaa\nbbbb\nccc"]
    assert [r["text"] for r in rows(source("text", annotations=place), "texts", step=3)] == texts


def test_wrong_texts_are_one_line(tmp_path: Path) -> None:
    for name, data, said in (
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("b.txt", b"\n\n", "holds no texts"),
        ("c.csv", b"text\n", "c.csv has no rows below its header"),
        ("c.csv", b"txt\nx\n", "no column 'text', its columns are 'txt': .*--set source.text_column=NAME"),
        ("d.pdf", b"", "is none of .txt, .csv"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=said):
            source("text", annotations=tmp_path / name)
    with pytest.raises(UserError, match=r"gone.txt is no file"):
        source("text", annotations=tmp_path / "gone.txt")


def test_scenes_are_those_of_the_world() -> None:
    found = source("scenes", seed=3, train=4, val=0, test=2, size=32, label="colour")
    assert [(t.name, t.split, t.rows) for t in found.tables()] == [
        ("images", "train", 4), ("texts", "train", 20), ("questions", "train", 20),
        ("images", "test", 2), ("texts", "test", 10), ("questions", "test", 10),
    ]  # fmt: skip
    third = scenes.scene(3, 2, "train")
    row = rows(found, "images", step=3)[2]
    assert np.array_equal(np.asarray(Image.open(BytesIO(row["image"]))), scenes.draw(third, 32))
    assert row["label"] == scenes.class_label(third, "colour") and row["image_id"] == "train-000002"
    texts = rows(found, "texts", step=3)
    assert tuple(r["text"] for r in texts[10:15]) == scenes.captions(third)
    assert [r["text_id"] for r in texts] == [str(n) for n in range(20)]
    assert [r["image_row"] for r in texts] == [n // 5 for n in range(20)]
    asked = rows(found, "questions", step=3)[10:15]
    assert [(r["question"], tuple(r["answers"])) for r in asked] == [
        (one.text, one.answers) for one in scenes.questions(third)
    ]
    assert [(r["question_id"], r["image_row"]) for r in asked] == [(str(n), 2) for n in range(10, 15)]
    without = source("scenes", seed=3, train=4, val=0, test=0, questions=False)
    assert [t.name for t in without.tables()] == ["images", "texts"]
    single = rows(source("scenes", seed=3, train=4, val=0, test=0, objects=1), "images", step=4)[2]
    alone = scenes.scene(3, 2, "train", objects=1)
    assert np.array_equal(np.asarray(Image.open(BytesIO(single["image"]))), scenes.draw(alone))
