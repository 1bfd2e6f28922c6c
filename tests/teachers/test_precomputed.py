"""Features from files: rows by id or by number, shapes from the file, no pickle."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mmkd_cli.core.errors import UserError
from mmkd_cli.teachers.feature_files import open_features
from mmkd_cli.teachers.precomputed import Precomputed, PrecomputedConfig

VALUES = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float16)


def open_teacher(file: Path, **keys: Any) -> Precomputed:
    return Precomputed(PrecomputedConfig(features=str(file), **keys))


def rows(*numbers: int, split: str = "train") -> dict[str, Any]:
    return {"row": torch.tensor(numbers), "id": [f"photo-{n}" for n in numbers], "split": split}


def ask(teacher: Precomputed, batch: dict[str, Any]) -> Any:
    teacher.load("cpu")
    (name,) = (name for name, spec in teacher.signals().items() if spec.default)
    return teacher(batch, [name])[name]


def regions_line(name: str, values: np.ndarray, boxes: np.ndarray | None = None, **fields: str) -> str:
    """A line as bottom-up attention's scripts write it. fields: in place of these, its columns by name."""
    line = {"image_id": name, "image_w": "640", "image_h": "480", "num_boxes": str(len(values))}
    for column, numbers in (("boxes", np.zeros((len(values), 4)) if boxes is None else boxes), ("features", values)):
        line[column] = base64.b64encode(numbers.astype(np.float32).tobytes()).decode()
    return "\t".join({**line, **fields}.values()) + "\n"


def test_rows_by_number_are_of_one_split(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", VALUES)
    teacher = open_teacher(tmp_path / "f.npy")
    assert {name: spec.shape for name, spec in teacher.signals().items()} == {"image_cls": (3,)}
    said = ask(teacher, rows(4, 0, 4))
    assert said.dtype == torch.float32
    np.testing.assert_array_equal(said.numpy(), VALUES[[4, 0, 4]].astype(np.float32))
    with pytest.raises(UserError, match=r"its rows are those of the split 'train': name ids .* for 'val' too"):
        ask(teacher, rows(0, split="val"))
    with pytest.raises(UserError, match=r"has 5 rows, the table more \(row 5, from 0\)"):
        ask(teacher, rows(0, 5))


@pytest.mark.parametrize("kind", ["npz", "safetensors", "lines"])
def test_rows_by_id_whatever_the_order(tmp_path: Path, kind: str) -> None:
    order = [3, 1, 4, 0, 2]
    keys: dict[str, Any] = {}
    if kind == "npz":
        np.savez(tmp_path / "f.npz", values=VALUES[order], ids=np.array([f"photo-{n}" for n in order]))
    elif kind == "safetensors":
        values = torch.from_numpy(VALUES[order])
        save_file({"values": values, "image_id": torch.tensor(order)}, tmp_path / "f.safetensors")
    else:
        np.save(tmp_path / "f.npy", VALUES[order])
        (tmp_path / "ids.txt").write_text("".join(f"photo-{n}\n" for n in order))
        keys = {"ids": str(tmp_path / "ids.txt")}
    file = next(file for file in tmp_path.glob("f.*"))
    batch = rows(2, 3, split="test")
    if kind == "safetensors":  # safetensors holds no texts: COCO's ids are numbers
        batch["id"] = ["2", "3"]
    np.testing.assert_array_equal(ask(open_teacher(file, **keys), batch).numpy(), VALUES[[2, 3]].astype(np.float32))
    with pytest.raises(UserError, match=r"has no features of 'other' \(1 of these 1 rows\)"):
        ask(open_teacher(file, **keys), {"row": torch.tensor([0]), "id": ["other"], "split": "test"})


def test_region_features_of_one_and_of_many_lengths(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    same = [random.standard_normal((4, 6)).astype(np.float32) for _ in range(3)]
    (tmp_path / "same.tsv").write_text("".join(regions_line(f"photo-{n}", v) for n, v in enumerate(same)))
    teacher = open_teacher(tmp_path / "same.tsv")
    (spec,) = (spec for spec in teacher.signals().values() if spec.default)
    assert (spec.name, spec.shape, spec.ragged) == ("image_tokens", (4, 6), False)
    np.testing.assert_array_equal(ask(teacher, rows(2, 0)).numpy(), np.stack([same[2], same[0]]))

    other = [random.standard_normal((n, 6)).astype(np.float32) for n in (2, 5, 1)]
    (tmp_path / "other.tsv").write_text("".join(regions_line(f"photo-{n}", v) for n, v in enumerate(other)))
    teacher = open_teacher(tmp_path / "other.tsv")
    (spec,) = (spec for spec in teacher.signals().values() if spec.default)
    assert (spec.shape, spec.ragged) == ((5, 6), True)
    said = ask(teacher, rows(1, 2))
    assert isinstance(said, list)
    for place, row in enumerate((1, 2)):
        np.testing.assert_array_equal(said[place].numpy(), other[row])


@pytest.mark.parametrize("counts", [(4, 4), (2, 5)])
def test_regions_are_cells_that_lie_somewhere(tmp_path: Path, counts: tuple[int, int]) -> None:
    random = np.random.default_rng(2)
    values = [random.standard_normal((n, 6)).astype(np.float32) for n in counts]
    boxes = [np.sort(random.uniform(size=(n, 2, 2)), axis=1).reshape(n, 4) * [640, 480, 640, 480] for n in counts]
    lines = [regions_line(f"photo-{n}", *pair) for n, pair in enumerate(zip(values, boxes, strict=True))]
    (tmp_path / "trainval.tsv.0").write_text("\n".join(lines))  # a blank line between the two
    teacher = open_teacher(tmp_path / "trainval.tsv.0")
    specs = teacher.signals()
    assert specs["grid"].along == ("grid_boxes",) and not specs["grid"].default
    assert specs["grid"].ragged == specs["grid_boxes"].ragged == (len(set(counts)) > 1)
    assert specs["grid_boxes"].shape == (max(counts), 4) and specs["grid_boxes"].dtype == "float32"
    said = teacher(rows(1, 0), ["grid", "grid_boxes"])
    for place, row in enumerate((1, 0)):
        np.testing.assert_array_equal(said["grid"][place], values[row])
        np.testing.assert_allclose(said["grid_boxes"][place], boxes[row] / [640, 480, 640, 480], rtol=1e-5)
    named = open_teacher(tmp_path / "trainval.tsv.0", signal="grid").signals()
    assert {name for name, spec in named.items() if spec.default} == {"grid", "grid_boxes"}


def test_views_of_viewpoints(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((2, 36, 5)).astype(np.float32)
    lines = [f"scan\tv{n}\t640\t480\t60\t{base64.b64encode(own.tobytes()).decode()}\n" for n, own in enumerate(values)]
    (tmp_path / "views.tsv").write_text("".join(lines))
    teacher = open_teacher(tmp_path / "views.tsv", table="viewpoints")
    (spec,) = teacher.signals().values()
    assert (spec.name, spec.table, spec.shape, spec.ragged) == ("views", "viewpoints", (36, 5), False)
    asked = {**rows(0, 1), "id": ["scan_v1", "scan_v0"]}
    np.testing.assert_array_equal(ask(teacher, asked).numpy(), values[::-1])
    (tmp_path / "views.tsv").write_text(lines[0].replace("\t60\t", "\t60\tAAAAAAAAAAAAAAAA"))
    with pytest.raises(UserError, match=r"features of 'scan_v0' are \d+ bytes, not float32 of 36 views"):
        open_teacher(tmp_path / "views.tsv", table="viewpoints").signals()


def test_names_follow_the_table_and_the_shape(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    np.save(tmp_path / "grid.npy", values)
    teacher = open_teacher(tmp_path / "grid.npy")
    assert {name: spec.shape for name, spec in teacher.signals().items()} == {"grid": (12, 5), "grid_size": (2,)}
    said = teacher(rows(1), ["grid", "grid_size"])
    assert said["grid"][0, 4 * 2 + 3].tolist() == values[1, 2, 3].tolist() and said["grid_size"].tolist() == [[3, 4]]
    np.save(tmp_path / "t.npy", VALUES)
    spec = open_teacher(tmp_path / "t.npy", table="texts").signals()["text_embedding"]
    assert spec.table == "texts"
    assert set(open_teacher(tmp_path / "t.npy", signal="views").signals()) == {"views"}


def test_what_is_read_of_a_file_is_the_identity(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", a=VALUES, b=VALUES[:, :2], ids=np.arange(5), other=np.arange(5)[::-1])
    choices = [{"array": "a"}, {"array": "b"}, {"array": "a", "ids": "other"}, {"array": "a", "split": "val"}]
    found = [open_teacher(tmp_path / "f.npz", **choice).identity() for choice in choices]
    assert all(found[i] != found[j] for i in range(4) for j in range(i))


def damaged(kind: str, folder: Path) -> Path:
    file = folder / f"f.{kind.split()[0]}"
    if kind == "npy pickle":
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "npz pickle":
        np.savez(file, values=VALUES, ids=np.array([{"a": 1}], dtype=object))
    elif kind == "npy ints":
        np.save(file, np.zeros((2, 3), dtype=np.int64))
    elif kind == "npz two":
        np.savez(file, a=VALUES, b=VALUES)
    elif kind == "npz ids":
        np.savez(file, values=VALUES, ids=np.arange(3))
    elif kind == "npz twice":
        np.savez(file, values=VALUES, ids=np.array([0, 1, 2, 1, 4]))
    elif kind == "tsv columns":
        file.write_text("1\t2\t3\n")
    elif kind == "tsv base64":
        file.write_text(regions_line("p", VALUES).rstrip() + "?\n")
    elif kind == "tsv width":
        file.write_text(regions_line("p", VALUES) + "\n\n" + regions_line("q", VALUES[:, :2]))
    elif kind == "tsv name":
        file.write_bytes(regions_line("p", VALUES).replace("p", "\xff", 1).encode("latin-1"))
    elif kind.startswith("tsv "):
        changed: dict[str, str] = {
            "boxes": regions_line("q", VALUES, np.zeros((1, 4))), "nan": regions_line("q", VALUES * np.nan),
            "none": regions_line("q", VALUES, num_boxes="0"), "wide": regions_line("q", VALUES, image_w="0"),
            "many": regions_line("q", VALUES, num_boxes="9" * 5000),
            "unpadded": regions_line("q", VALUES).replace("A=\t", "A\t"),
            "outside": regions_line("q", VALUES, np.full((5, 4), 700)),
            "turned": regions_line("q", VALUES, np.tile([9, 9, 1, 1], (5, 1))),
        }  # fmt: skip
        file.write_text(regions_line("p", VALUES) + changed[kind.split()[1]])
    else:
        file.write_bytes(b"nothing")
    return file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("npy pickle", "without pickles"),
        ("npz pickle", "'ids' does not load without pickles"),
        ("npy ints", "int64 .* not floats"),
        ("npz two", r"holds 2 arrays of features \(a, b\): name one"),
        ("npz ids", "has 5 rows and 3 ids"),
        ("npz twice", "1 ids stand twice, the first '1'"),
        ("tsv columns", "line 1: 3 columns in place of"),
        ("tsv base64", "line 1, image 'p': features are not base64"),
        ("tsv width", "line 4, image 'q': features are 40 bytes, not float32 of 5 regions x 3"),
        ("tsv name", r"line 1: image_id is b'\\xff', not UTF-8"),
        ("tsv boxes", "line 2, image 'q': boxes are 16 bytes, not four float32 of each of 5"),
        ("tsv unpadded", "line 2, image 'q': boxes are not base64"),
        ("tsv nan", "line 2, image 'q': features hold what is no finite number"),
        ("tsv none", "line 2, image 'q': num_boxes is b'0', not a count"),
        ("tsv many", "line 2, image 'q': num_boxes is b'9+', not a count"),
        ("tsv wide", "line 2, image 'q': image_w is b'0', not a count"),
        ("tsv outside", "line 2, image 'q': a box is no left, top, right, bottom within 640 x 480 pixels"),
        ("tsv turned", "line 2, image 'q': a box is no left, top, right, bottom"),
        ("npz", "is no .npz file"),
        ("safetensors", "is no safetensors file"),
        ("txt", "is not one of .npy, .npz, .safetensors, .tsv"),
    ],
)
def test_files_that_can_not_be_used_are_named(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask(open_teacher(damaged(kind, tmp_path)), rows(0))


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), suffix=st.sampled_from(["npy", "npz", "safetensors", "tsv"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    file = tmp_path_factory.mktemp("bytes") / f"f.{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError):
        open_features(file, None, None)
