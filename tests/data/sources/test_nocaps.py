"""nocaps' official JSON, and `datasets`: domains, captions where there are any, pictures in whichever folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source

IMAGES = [("in-domain", 5), ("out-domain", 2), ("near-domain", 9)]


def official(folder: Path, name: str = "nocaps_val_4500_captions.json", **more: Any) -> Path:
    """Captions 10, 11, 12, ... of the images in another order."""
    images = [{"license": 0, "open_images_id": f"{n:x}", "width": 1, "height": 1, "file_name": f"{n:016x}.jpg",
               "coco_url": "", "id": n, "domain": domain} for domain, n in IMAGES]  # fmt: skip
    captions = [{"image_id": n, "id": 10 + k, "caption": f"caption {k}"} for k, n in enumerate((9, 5, 2, 9))]
    (folder / name).write_text(json.dumps({"images": images, "annotations": captions, **more}))
    return folder / name


def test_domains_and_captions(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for _, n in IMAGES[:2]:
        (tmp_path / f"val/{n:016x}.jpg").write_bytes(jpeg(n))
    found = source("nocaps", images=tmp_path, annotations=official(tmp_path))
    assert [(row["image_id"], row["domain"]) for row in rows(found, "images", "val")] == [
        ("5", "in-domain"), ("2", "out-domain"), ("9", "near-domain")
    ]  # fmt: skip
    assert [(r["text_id"], r["image_row"]) for r in rows(found, "texts", "val", step=3)] == [
        ("10", 2), ("11", 0), ("12", 1), ("13", 2)
    ]  # fmt: skip
    assert [Path(path).name for path in found.missing()] == [f"{9:016x}.jpg"]
    first = source("nocaps", images=tmp_path, annotations=tmp_path / "nocaps_val_4500_captions.json", limit=1)
    assert [r["text_id"] for r in rows(first, "texts", "val")] == ["11"]


def test_the_test_split_has_no_captions_and_no_domains(tmp_path: Path) -> None:
    file = official(tmp_path, "nocaps_test_image_info.json")
    document = json.loads(file.read_text())
    del document["annotations"]
    for image in document["images"]:
        del image["domain"]
    file.write_text(json.dumps(document))
    found = source("nocaps", images=tmp_path, annotations=file)
    assert [(t.name, t.split, t.rows) for t in found.tables()] == [("images", "test", 3)]
    assert {row["domain"] for row in rows(found, "images", "test")} == {""}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"images": []}, "there are no images"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, r"images\[1\]: two images have the id 1"),
        ({"images": [{"id": 1, "file_name": "../a.jpg"}]}, r"images\[0\]: path '../a.jpg' leaves its folder"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "domain": 3}]}, "field 'domain': a text is needed"),
        ({"annotations": [{"image_id": 77, "id": 1, "caption": "x"}]}, r"annotations\[0\], .* has the id 77"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        source("nocaps", images=tmp_path, annotations=official(tmp_path, **more))


def hub_split(captions: bool = True) -> datasets.Dataset:
    """A split with the columns of the hub's versions: captions k of official()."""
    said = [[(10 + k, f"caption {k}") for k, one in enumerate((9, 5, 2, 9)) if one == n] for _, n in IMAGES]
    text, number = datasets.Value("string"), datasets.Value("int64")
    columns = {"image": datasets.Image(), "image_id": number, "image_file_name": text, "image_domain": text,
               "annotations_ids": [number], "annotations_captions": [text]}  # fmt: skip
    rows = [{"image": {"bytes": jpeg(n), "path": None}, "image_id": n, "image_file_name": f"{n:016x}.jpg",
             "image_domain": domain if captions else None,
             "annotations_ids": [one for one, _ in own] if captions else [],
             "annotations_captions": [caption for _, caption in own] if captions else []}
            for (domain, n), own in zip(IMAGES, said, strict=True)]  # fmt: skip
    return datasets.Dataset.from_list(rows, features=datasets.Features(columns))


def test_a_datasets_folder_gives_what_the_official_file_gives(tmp_path: Path) -> None:
    """Captions by their ids; those of datasets stand picture by picture."""
    datasets.DatasetDict({"validation": hub_split(), "test": hub_split(False)}).save_to_disk(tmp_path / "d")
    files = source("nocaps", images=tmp_path, annotations=official(tmp_path))
    found = source("nocaps", annotations=tmp_path / "d")
    assert [(row["image_id"], row["domain"]) for row in rows(found, "images", "val", step=2)] == [
        (row["image_id"], row["domain"]) for row in rows(files, "images", "val")
    ]
    assert [row["image"] for row in rows(found, "images", "val")] == [jpeg(n) for _, n in IMAGES]
    texts = rows(found, "texts", "val", step=3)
    assert sorted(texts, key=lambda row: row["text_id"]) == rows(files, "texts", "val")
    assert [row["text_id"] for row in texts] == ["11", "12", "10", "13"]
    assert [t.name for t in found.tables() if t.split == "test"] == ["images"]
    assert {row["domain"] for row in rows(found, "images", "test")} == {""}
    first = source("nocaps", annotations=tmp_path / "d", limit=1)
    assert [row["text_id"] for row in rows(first, "texts", "val")] == ["11"]
    assert not list(found.missing()) and found.identity() == first.identity()


def test_captions_without_ids_are_named_by_their_picture(tmp_path: Path) -> None:
    hub_split().remove_columns("annotations_ids").save_to_disk(tmp_path / "d")
    found = source("nocaps", annotations=tmp_path / "d")
    assert [row["text_id"] for row in rows(found, "texts")] == ["5#0", "2#0", "9#0", "9#1"]


def test_datasets_that_do_not_fit_are_named(tmp_path: Path) -> None:
    made = hub_split()
    for number, (part, said) in enumerate((
        (made.rename_columns({"annotations_captions": "captions", "image_domain": "domain"}),
         "has no column 'annotations_captions', its columns are .*'captions'"),
        (made.rename_column("image_id", "id"), "has no column 'image_id'"),
        (made.remove_columns("image"), "has no column 'image'"),
        (made.select([0, 0]), "two pictures have the image_id 5"),
    )):  # fmt: skip
        part.save_to_disk(tmp_path / f"d{number}")
        with pytest.raises(UserError, match=said):
            source("nocaps", annotations=tmp_path / f"d{number}")
    with pytest.raises(UserError, match="holds no pictures: name their folder by --images"):
        source("nocaps", annotations=official(tmp_path))
