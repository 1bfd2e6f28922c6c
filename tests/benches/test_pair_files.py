"""Readers of Winoground, SugarCrepe and ARO: official files, hand-made layouts, and files that are almost right."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkd_cli.benches import aro_files, sugarcrepe_files
from mmkd_cli.benches.aro_orders import Tools
from mmkd_cli.benches.pair_items import PairItems
from mmkd_cli.benches.winoground_files import WinogroundFiles
from mmkd_cli.core.errors import UserError
from mmkd_cli.scenes.swap_files import LAYOUTS, write
from tests.benches.bench_files import (
    aro_folder,
    spoiled,
    sugarcrepe_folder,
    winoground_folder,
    winoground_parquet,
    winoground_pictures,
    winoground_rows,
)

TOOLS = Tools(lambda text: [(word, "NN") for word in text.split()], str.split)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def colours(items: PairItems) -> list[int]:
    """The red of each picture's first pixel."""
    assert items.pictures is not None
    return [items.pictures.picture(row).getpixel((0, 0))[0] for row in range(len(items.pictures))]


def said(items: PairItems, part: str = "") -> list[list[tuple[int, str]]]:
    """Each item's pairs as (red of the picture, caption)."""
    reds = colours(items)
    return [[(reds[picture], items.texts[text]) for picture, text in item] for item in items.parts[part].pairs.tolist()]


EXPECTED = [
    [(20 * i, f"{2 * i}"), (20 * i + 10, f"{2 * i}"), (20 * i, f"{2 * i + 1}"), (20 * i + 10, f"{2 * i + 1}")]
    for i in range(3)
]
"""Caption 0 with both pictures, then caption 1."""


def test_winoground_in_every_layout(tmp_path: Path) -> None:
    hub = winoground_folder(tmp_path / "hub")
    unpacked = tmp_path / "unpacked"
    (unpacked / "images").mkdir(parents=True)
    (unpacked / "examples.jsonl").write_text((hub / "data" / "examples.jsonl").read_text())
    for name, data in winoground_pictures().items():
        (unpacked / "images" / name).write_bytes(data)
    listed = tmp_path / "data.json"  # of captions alone; pictures by Winoground's own names
    captions = [{k: v for k, v in row.items() if not k.startswith("image")} for row in winoground_rows()]
    listed.write_text(json.dumps(captions))
    parquet = winoground_parquet(tmp_path / "parquet")
    for place, images in (
        (hub, None),
        (hub / "data" / "examples.jsonl", None),
        (unpacked, None),
        (listed, unpacked / "images"),
        (listed, hub / "data" / "images.zip"),
        (parquet, None),
        (parquet / "test-0.parquet", None),
    ):
        files = WinogroundFiles.find(str(place), None if images is None else str(images))
        items = files.read(with_pictures=True)
        expected = EXPECTED[:2] if place.suffix == ".parquet" else EXPECTED
        assert said(items) == expected, place
        part = items.parts[""]
        assert part.ids == [str(i) for i in range(len(expected))]
        assert part.notes is not None and part.notes[1]["collapsed_tag"] == "Relation"
        assert part.notes[1]["num_main_preds"] == 2
        assert all(Path(path).exists() for path in files.by_key().values())


def test_winoground_s_official_captions(real_data: Path) -> None:
    file = real_data / "winoground" / "data.json"
    files = WinogroundFiles.find(str(file), None)
    items = files.read(with_pictures=False)
    rows = json.loads(file.read_text())
    part = items.parts[""]
    assert len(part) == 400 and files.by_key() == {"annotations": str(file)}
    for row, identifier, pairs in zip(rows, part.ids, part.pairs, strict=True):
        assert identifier == str(row["id"])
        assert [items.texts[text] for text in pairs[:, 1]] == [row[f"caption_{c}"] for c in (0, 0, 1, 1)]
        assert (pairs[:, 0] - 2 * row["id"]).tolist() == [0, 1, 0, 1]
    with pytest.raises(UserError, match=r"no pictures beside .*: name them by --images; Winoground is gated"):
        files.read(with_pictures=True)


def test_winoground_that_is_not_there_says_what_to_put_where(tmp_path: Path) -> None:
    for place in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError) as caught:
            WinogroundFiles.find(str(place), None)
        line = str(caught.value)
        assert "data/examples.jsonl and data/images.zip" in line and "--annotations" in line and "\n" not in line
    hub = winoground_folder(tmp_path / "hub")
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as archive:
        archive.writestr("ex_0_img_0.png", b"")
    few = WinogroundFiles.find(str(hub), str(tmp_path / "few.zip"))
    with pytest.raises(UserError, match=r"5 of 6 pictures are not in .*few.zip, the first is 'ex_0_img_1'"):
        few.read(with_pictures=True)
    (tmp_path / "none.zip").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="can't be read as a zip archive"):
        WinogroundFiles.find(str(hub), str(tmp_path / "none.zip")).read(with_pictures=True)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"a.parquet can't be read as parquet"):
        WinogroundFiles.find(str(tmp_path / "p"), None).read(with_pictures=True)


def test_wrong_rows_are_named(tmp_path: Path) -> None:
    for change, what in (
        ({"caption_1": 7}, r"line 2, field 'caption_1': a text is needed, not 7"),
        ({"caption_0": " "}, r"line 2, field 'caption_0': the text is empty"),
        ({"id": 0}, r"line 2, field 'id': 0 names an earlier item"),
        ({"id": "1"}, r"line 2, field 'id': a whole number is needed"),
        ({"image_0": "../../secret"}, r"line 2, field 'image_0': path '../../secret' leaves its folder"),
        ({"tag": 3}, r"line 2, field 'tag'"),
    ):
        rows = winoground_rows()
        rows[1].update(change)
        file = tmp_path / "examples.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "images").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=what):
            WinogroundFiles.find(str(tmp_path), None).read(with_pictures="image_0" in change)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    folder = sugarcrepe_folder(tmp_path)
    (folder / "images" / "000000000001.jpg").write_bytes(b"\xff\xd8\xff nothing")
    items = sugarcrepe_files.read(sugarcrepe_files.annotation_files(str(folder)), [folder / "images"])
    assert items.pictures is not None
    items.pictures[[0]]
    with pytest.raises(UserError, match=r"picture 000000000001.jpg can't be read"):
        items.pictures[[0, 1]]


def test_sugarcrepe_keeps_its_numbers(tmp_path: Path) -> None:
    folder = sugarcrepe_folder(tmp_path)
    files = sugarcrepe_files.annotation_files(str(folder))
    items = sugarcrepe_files.read(files, sugarcrepe_files.image_folders(str(folder), None))
    assert list(items.parts) == list(sugarcrepe_files.ITEMS)
    assert list(items.parts["swap_obj"].ids) == ["1", "4", "7"]  # the file's keys: they have gaps
    assert said(items, "swap_obj") == [[(10 * i, f"{i}"), (10 * i, f"{i + 1}")] for i in range(3)]
    assert len(items.texts) == 4 and len(colours(items)) == 3  # each caption and picture once


def test_sugarcrepe_s_official_files(real_data: Path) -> None:
    files = sugarcrepe_files.annotation_files(str(real_data / "sugarcrepe"))
    items = sugarcrepe_files.read(files, None)
    assert {name: len(part) for name, part in items.parts.items()} == dict(sugarcrepe_files.ITEMS)
    document = json.loads(files["swap_obj"].read_text())
    assert list(items.parts["swap_obj"].ids) == list(document) != [str(i) for i in range(245)]
    last = items.parts["swap_obj"].pairs[-1, :, 1]
    assert [items.texts[text] for text in last] == list(document["245"].values())[1:]
    with pytest.raises(UserError, match=r"\d,\d{3} of \d,\d{3} pictures are not there, .*val2017.zip"):
        sugarcrepe_files.read(files, [])


def test_aro_crops_and_groups(tmp_path: Path) -> None:
    folder = aro_folder(tmp_path)
    files = aro_files.annotation_files(str(folder))
    assert list(files) == ["vg_relation", "vg_attribution", "coco_order"]
    items = aro_files.read(files, aro_files.image_folders(str(folder), None), TOOLS)
    assert items.pictures is not None
    crop = np.asarray(items.pictures.picture(0))
    assert crop.shape == (4, 6, 3) and (crop == [20, 0, 0]).all()  # nothing around the box
    relation = items.parts["vg_relation"]
    assert relation.group == ("on", "on", "under", "near", "near")
    assert said(items, "vg_relation")[2] == [(20, "3"), (20, "2")]  # the true caption first
    assert items.parts["vg_attribution"].group[0] == "old_red"
    order = items.parts["coco_order"]
    assert order.ids == ("0.0", "0.1") and order.pairs.shape == (2, 5, 2) and order.group is None
    assert items.texts[order.pairs[1, 0, 1]] == "2 3"


def test_aro_s_wrong_rows_are_named(tmp_path: Path) -> None:
    file = aro_folder(tmp_path) / "visual_genome_relation.json"
    good = json.loads(file.read_text())
    for change, what in (
        ({"bbox_w": 0}, r"row 1: the box 6, 4, 0 x 4 can't be cropped to"),
        ({"bbox_w": 10**9, "bbox_h": 10**9}, "can't be cropped to"),
        ({"bbox_x": 1.5}, r"row 1, field 'bbox_x': a whole number is needed"),
        ({"image_path": "/etc/passwd"}, "leaves its folder"),
    ):
        file.write_text(json.dumps([good[0], {**good[1], **change}]))
        with pytest.raises(UserError, match=what):
            aro_files.read({"vg_relation": file}, None, None)


def test_files_that_are_missing_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hold none of SugarCrepe's files: put SugarCrepe's data/\*.json"):
        sugarcrepe_files.annotation_files(str(tmp_path))
    with pytest.raises(UserError, match=r"hold none of ARO's files: put ARO's files"):
        aro_files.annotation_files(str(tmp_path))
    with pytest.raises(UserError, match=r"images .*nowhere is no folder: .*val2017"):
        sugarcrepe_files.image_folders(str(tmp_path), str(tmp_path / "nowhere"))


def parsed_or_refused(read: Any) -> None:
    """Reading gives items whose places exist, or one line; nothing else."""
    try:
        items = read()
    except UserError as error:
        assert "\n" not in str(error)
        return
    for part in items.parts.values():
        assert len(part.ids) == len(part.pairs) == len(part.images) == len(set(part.ids))
        assert part.pairs[:, :, 1].min() >= 0 and part.pairs[:, :, 1].max() < len(items.texts)


@MANY
@given(document=spoiled(winoground_rows()), lines=st.booleans())
def test_any_winoground_json(tmp_path: Path, document: Any, lines: bool) -> None:
    file = tmp_path / ("examples.jsonl" if lines else "data.json")
    rows = document if isinstance(document, list) else [document]
    file.write_text("\n".join(json.dumps(row) for row in rows) if lines else json.dumps(document))
    parsed_or_refused(lambda: WinogroundFiles.find(str(file), None).read(with_pictures=False))


@MANY
@given(data=st.data())
def test_any_damage_of_archives_and_parquet_is_one_line(tmp_path: Path, data: st.DataObject) -> None:
    """A byte changed or the end cut off: the pictures are read, or what can't be read is named."""
    kind = data.draw(st.sampled_from(["zip", "parquet"]))
    folder = tmp_path / kind
    if not folder.exists():
        (winoground_folder if kind == "zip" else winoground_parquet)(folder)
    good = folder / "data" / "images.zip" if kind == "zip" else folder / "test-0.parquet"
    raw = bytearray(good.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))]
    hurt = tmp_path / f"{data.draw(st.uuids())}{good.suffix}"  # a new name: open files are remembered by theirs
    hurt.write_bytes(raw)
    given = (str(folder), str(hurt)) if kind == "zip" else (str(hurt), None)
    try:
        items = WinogroundFiles.find(*given).read(with_pictures=True)
        assert items.pictures is not None
        for row in range(len(items.pictures)):
            items.pictures.picture(row)
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        hurt.unlink()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_swaps_of_scenes_are_read_by_the_official_readers(tmp_path: Path, layout: str) -> None:
    """What the built-in world writes in each layout, with pictures beside it."""
    write(layout, tmp_path, "held-out", items=5)
    place = str(tmp_path)
    if layout == "winoground":
        items = WinogroundFiles.find(place, None).read(with_pictures=True)
        assert {note["collapsed_tag"] for note in items.parts[""].notes} == {"Object", "Relation"}
    elif layout == "sugarcrepe":
        files = sugarcrepe_files.annotation_files(place)
        items = sugarcrepe_files.read(files, sugarcrepe_files.image_folders(place, None))
        assert list(items.parts) == list(sugarcrepe_files.ITEMS)
    else:
        items = aro_files.read(aro_files.annotation_files(place), aro_files.image_folders(place, None), TOOLS)
        assert list(items.parts) == ["vg_relation", "vg_attribution", "coco_order"]
    assert items.pictures is not None
    assert all(items.pictures.picture(row).size == (64, 64) for row in range(len(items.pictures)))


ITEM = {"filename": "a.jpg", "caption": "1", "negative_caption": "2"}


@MANY
@given(document=spoiled({"1": ITEM, "3": ITEM}))
def test_any_sugarcrepe_json(tmp_path: Path, document: Any) -> None:
    file = tmp_path / "add_att.json"
    file.write_text(json.dumps(document))
    parsed_or_refused(lambda: sugarcrepe_files.read({"add_att": file}, None))


CROP = {"image_path": "a.jpg", "bbox_x": 1, "bbox_y": 2, "bbox_w": 3, "bbox_h": 4, "true_caption": "1",
        "false_caption": "2", "relation_name": "on", "attributes": ["old", "red"]}  # fmt: skip


@MANY
@given(document=spoiled([CROP, CROP]), task=st.sampled_from(["vg_relation", "vg_attribution"]))
def test_any_vg_json(tmp_path: Path, document: Any, task: str) -> None:
    file = tmp_path / "vg.json"
    file.write_text(json.dumps(document))
    parsed_or_refused(lambda: aro_files.read({task: file}, None, None))


@MANY
@given(document=spoiled([{"image": "a.jpg", "caption": ["a cat", "a dog"]}]))
def test_any_order_json(tmp_path: Path, document: Any) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(document))
    parsed_or_refused(lambda: aro_files.read({"coco_order": file}, None, TOOLS))
