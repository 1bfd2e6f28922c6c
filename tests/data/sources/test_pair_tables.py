"""CSV, TSV and JSONL of paths and captions: one image row a picture, wrong rows and columns named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source

Pair = tuple[str, ...]


def write(path: Path, pairs: list[Pair], header: Pair = ("path", "caption")) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(dict(zip(header, pair, strict=True))) + "\n" for pair in pairs)
        else:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([header, *pairs])
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(jpeg(number))
    return tmp_path / "photos"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_rows_of_one_path_are_one_picture(tmp_path: Path, photos: Path, suffix: str) -> None:
    pairs = [("b.jpg", 'a "dog", barking'), ("a.jpg", "two\nlines"), ("b.jpg", "ein Hünd\tim Park")]
    found = source("image-text", annotations=write(tmp_path / f"p{suffix}", pairs), images=photos)
    assert [row["image_id"] for row in rows(found, "images")] == ["b", "a"]
    assert rows(found, "texts", step=2) == [
        {"text_id": str(n), "text": pair[1], "image_row": row}
        for n, (pair, row) in enumerate(zip(pairs, [0, 1, 0], strict=True), 1)
    ]
    assert not list(found.missing())


def test_paths_start_from_the_table_from_images_or_from_the_root(tmp_path: Path, photos: Path) -> None:
    elsewhere = tmp_path / "notes"
    elsewhere.mkdir()
    beside, inside, whole, up, mixed = (
        source("image-text", annotations=write(place / f"{name}.csv", [(path, "x") for path in paths]), **images)
        for name, place, paths, images in (
            ("beside", tmp_path, ["photos/a.jpg", "photos/b.jpg"], {}),
            ("inside", tmp_path, ["a.jpg"], {"images": photos}),
            ("whole", tmp_path, [str(photos / "a.jpg")], {"images": photos}),
            ("up", elsewhere, ["../photos/a.jpg", "../photos/b.jpg"], {}),
            ("mixed", tmp_path, ["a.jpg", "photos/b.jpg"], {"images": photos}),
        )
    )
    for found in (beside, inside, whole, up, mixed):
        assert not list(found.missing())
    assert [row["image_id"] for row in rows(beside, "images")] == ["photos/a", "photos/b"]
    assert rows(inside, "images")[0]["image_id"] == rows(whole, "images")[0]["image_id"] == "a"
    assert [row["image_id"] for row in rows(up, "images")] == ["a", "b"]


def test_identity_moves_with_the_folder(tmp_path: Path, photos: Path) -> None:
    table = write(photos / "p.csv", [("a.jpg", "x"), ("b.jpg", "y")])
    before = source("image-text", annotations=table).identity()
    photos.rename(tmp_path / "moved")
    assert source("image-text", annotations=tmp_path / "moved" / "p.csv").identity() == before
    (tmp_path / "moved" / "b.jpg").write_bytes(jpeg(9, 60, 60))
    assert source("image-text", annotations=tmp_path / "moved" / "p.csv").identity() != before


def test_splits_come_from_their_column(tmp_path: Path, photos: Path) -> None:
    pairs = [("a.jpg", "1", "val"), ("b.jpg", "2", "train"), ("a.jpg", "3", "train"), ("a.jpg", "4", "val")]
    found = source("image-text", annotations=write(photos / "p.csv", pairs, ("path", "caption", "split")))
    assert [(t.name, t.split, t.rows) for t in found.tables()] == [
        ("images", "val", 1), ("images", "train", 2), ("texts", "val", 2), ("texts", "train", 2)
    ]  # fmt: skip
    assert [(r["text_id"], r["image_row"]) for r in rows(found, "texts", "train")] == [("2", 0), ("3", 1)]
    first = source("image-text", annotations=photos / "p.csv", limit=1)
    assert [r["text_id"] for r in rows(first, "texts", "train")] == ["2"]


def test_ids_stay_apart_where_only_the_suffix_differs(photos: Path) -> None:
    (photos / "a.png").write_bytes(jpeg(5))
    found = source("image-text", annotations=write(photos / "p.csv", [("a.jpg", "x"), ("a.png", "y")]))
    assert [row["image_id"] for row in rows(found, "images")] == ["a.jpg", "a.png"]


def test_missing_pictures_are_all_found(photos: Path) -> None:
    pairs = [("a.jpg", "x"), *((f"gone{n}.jpg", "y") for n in range(30)), ("a\0.jpg", "z"), (".", "a folder")]
    found = source("image-text", annotations=write(photos / "p.jsonl", pairs))
    assert len(list(found.missing())) == 32


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "path,capton\na.jpg,x\n",
         r"p.csv has no column 'caption', its columns are 'path', 'capton': rename .*source.caption_column=NAME"),
        ("p.tsv", "path,caption\na.jpg,x\n", "p.tsv looks separated by commas, which .tsv is not: name it .csv"),
        ("p.csv", "path\tcaption\na.jpg\tx\n", "p.csv looks separated by tabs, which .csv is not: name it .tsv"),
        ("p.csv", "path;caption\na.jpg;x\n", "looks separated by semicolons, .* save it with commas"),
        ("p.csv", "a.jpg,x\n", r"no column 'path', its columns are 'a.jpg', 'x'"),
        ("p.csv", "path,caption\na.jpg,x\nb.jpg,a dog, a cat\n", r"row 2 \(line 3\): 3 fields, the header has 2"),
        ("p.csv", "path,caption\na.jpg\n", r"row 1 \(line 2\): 1 fields"),
        ("p.csv", "path,caption\n", "has no rows"),
        ("p.csv", "", r"p.csv is empty: its first line must name the columns path, caption$"),
        ("p.jsonl", "\n", r"p.jsonl is empty: each line must hold an object with path, caption$"),
        ("p.csv", 'path,caption\na.jpg,"x" y\n', r"line 2, can't be read as csv \(.*\): look at its quotes"),
        ("p.csv", "path,caption\n,x\n", "row 1: the path is empty"),
        ("p.csv", "path,caption,split\na.jpg,x,../up\n", "row 1, column 'split': '../up' can't be a split's name"),
        ("p.jsonl", '{"path": "a.jpg", "caption": "x"}\n{"path": 3, "caption": "x"}\n',
         "line 2, field 'path': a text is needed, not 3"),
        ("p.jsonl", '{"path": "a.jpg", "caption": "x"}\n{"path": "b.jpg"}\n',
         "line 2: field 'caption' is missing, it has 'path'$"),
        ("p.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("p.jsonl", '\n{"path": "a.jpg",\n', r"line 2 is not JSON \(.* at character 1[78]\)"),
        ("p.jsonl", '{"path": "a", "capton": "x"}',
         r"line 1 has no column 'caption', its columns are 'path', 'capton'"),
        ("p.csv", b"path,caption\na.jpg,\xff\xfe\n", r"is not UTF-8 \(.*0xff\): save it as UTF-8"),
        ("p.xlsx", "x", "is none of .csv, .tsv, .jsonl, .tar"),
    ],
)  # fmt: skip
def test_wrong_tables_are_one_line(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=said) as error:
        source("image-text", annotations=tmp_path / name)
    assert name in str(error.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.csv' is no file"):
        source("image-text", annotations=tmp_path / "gone.csv")
    with pytest.raises(UserError, match="is no folder"):
        source("image-text", annotations=write(tmp_path / "p.csv", [("a", "b")]), images=tmp_path / "gone")


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@given(pairs=st.lists(st.tuples(st.sampled_from(["a", "b/c.jpg", "d e.png", "ü.jpg"]), text), min_size=1, max_size=20))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, suffix: str, pairs: list[Any]) -> None:
    found = source("image-text", annotations=write(tmp_path_factory.mktemp("pairs") / f"p{suffix}", pairs))
    order = list(dict.fromkeys(path for path, _ in pairs))
    assert [Path(row["source"]).name for row in rows(found, "images", step=2)] == [Path(path).name for path in order]
    assert [(r["text"], order[r["image_row"]]) for r in rows(found, "texts", step=3)] == [(t, p) for p, t in pairs]
