"""R2R and RxR: instructions, houses' graphs, pictures of views; what can't be walked is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.connectivity import read_house
from tests.benches.text_bench_files import PATH, house, r2r, rxr, write
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source


def test_r2r_is_instructions_and_viewpoints(tmp_path: Path) -> None:
    keys, _ = r2r(tmp_path)
    made = source("r2r", **keys)
    found = rows(made, "instructions", "val_unseen")
    assert [row["instruction_id"] for row in found] == ["7_0", "7_1", "7_2", "8_0", "8_1", "8_2"]
    assert found[1] == {"instruction_id": "7_1", "instruction": "walk <b> 1", "language": "", "scan": "A",
                        "path_id": "7", "path": PATH, "heading": 0.5}  # fmt: skip
    seen = rows(made, "viewpoints", "val_unseen")
    assert [row["viewpoint_id"] for row in seen] == ["A_a0", "A_a1", "A_a2", "A_a3"]
    assert [row["neighbours"] for row in seen] == [[1], [0, 2], [1, 3], [2]] and seen[0]["image_row"] == -1
    assert seen[3]["position"] == [6.0, 1.0, 1.5] and not [*made.missing()]


def test_rxr_says_its_language_packed_or_not(tmp_path: Path) -> None:
    keys, _ = rxr(tmp_path)
    whole = rows(source("rxr", **keys), "instructions", "val_unseen")
    assert [row["language"] for row in whole] == ["en-IN"] * 3 + ["hi-IN"] * 3 and whole[0]["instruction_id"] == "0"
    (tmp_path / "guides").mkdir()
    packed = tmp_path / "guides/rxr_val_unseen_guide.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(keys["annotations"]).read_bytes()))
    (tmp_path / "guides/rxr_val_unseen_follower.jsonl.gz").write_bytes(b"no guide")
    assert rows(source("rxr", **{**keys, "annotations": packed.parent}), "instructions", "val_unseen") == whole


def test_36_pictures_of_each_viewpoint(tmp_path: Path) -> None:
    keys, _ = r2r(tmp_path)
    for name in PATH:
        folder = tmp_path / "views" / "A" / name
        folder.mkdir(parents=True)
        for view in range(36):
            (folder / f"{view:02d}.jpg").write_bytes(jpeg(0))
    (tmp_path / "views/A/a1/35.jpg").unlink()
    made = source("r2r", images=tmp_path / "views", **keys)
    assert [row["image_row"] for row in rows(made, "viewpoints", "val_unseen")] == [0, 36, 72, 108]
    pictures = rows(made, "images", "val_unseen")
    assert len(pictures) == 144 and pictures[37]["image_id"] == "A_a1_01"
    assert [*made.missing()] == [str(tmp_path / "views/A/a1/35.jpg")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"path": ["a0", "a2"]}, "no edge of scan A leads from 'a0' to 'a2'"),
        ({"path": ["a0", "out"]}, "viewpoint 'out' is none of scan A's graph"),
        ({"path": []}, "it says no viewpoint to start from"),
        ({"heading": None}, "it says no heading"),
        ({"instructions": [" "]}, "the instruction is empty"),
        ({"scan": "B"}, "scan B has no graph"),
        ({"path": ["a0"]}, None),
    ],
)
def test_what_can_not_be_walked_is_named(tmp_path: Path, change: dict[str, Any], problem: str | None) -> None:
    row = {"scan": "A", "path_id": 1, "path": PATH, "heading": 0.5, "instructions": ["go"], **change}
    made = source("r2r", annotations=write(tmp_path / "R2R_test.json", [row]), connectivity=house(tmp_path))
    (found,) = rows(made, "instructions", "test")
    assert found.get("problem") == problem
    assert [Path(path).name for path in made.missing()] == (["B_connectivity.json"] if change.get("scan") else [])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("R2R.json", "[]", "its name says no split"),
        ("R2R_train.json", "[]", "there are no instructions"),
        ("R2R_train.json", '[{"path_id": 1}]', "field 'instructions' is missing"),
        ("R2R_train.json", '[{"path_id": 1, "instructions": ["x"], "scan": "../A", "path": [], "heading": 0}]',
         "leaves its folder"),
        ("R2R_train.json", '[{"path_id": 1, "instructions": ["x"], "scan": "A", "path": [], "heading": "n"}]',
         "field 'heading': a number is needed"),
    ],
)  # fmt: skip
def test_a_spoilt_file_is_refused_by_name(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        source("r2r", annotations=write(tmp_path / name, content), connectivity=house(tmp_path))


def test_the_real_files_are_read_whole(real_data: Path) -> None:
    place = real_data / "r2r"
    made = source("r2r", annotations=place / "R2R_val_unseen.json", connectivity=place / "connectivity")
    found, seen = rows(made, "instructions", "val_unseen"), rows(made, "viewpoints", "val_unseen")
    assert len(found) == 2349 and not any("problem" in row for row in found) and not [*made.missing()]
    scans = list(dict.fromkeys(row["scan"] for row in found))
    houses = {scan: read_house(place / "connectivity", scan) for scan in scans}
    assert len(seen) == sum(len(house.viewpoints) for house in houses.values())
    for row in seen[::97]:
        own = houses[row["scan"]]
        near = {own.viewpoints[node] for node in own.graph[own.index[row["viewpoint"]]]}
        assert {seen[other]["viewpoint"] for other in row["neighbours"]} == near
        np.testing.assert_array_equal(row["position"], own.positions[own.index[row["viewpoint"]]])
    lacking = source("r2r", annotations=place / "R2R_val_seen.json", connectivity=place / "connectivity")
    listed = {row["scan"] for row in json.loads((place / "R2R_val_seen.json").read_text())}
    there = {path.name.partition("_")[0] for path in (place / "connectivity").glob("*.json")}
    assert len([*lacking.missing()]) == len(listed - there) > 0
