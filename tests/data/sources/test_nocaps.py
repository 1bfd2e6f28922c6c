"""nocaps' official JSON: domains, captions where there are any, pictures in whichever folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
