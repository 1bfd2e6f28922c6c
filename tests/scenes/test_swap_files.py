"""The official layouts that swaps are written in, read by the benches' own readers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkd_cli import scenes
from mmkd_cli.benches import aro_files, sugarcrepe_files
from mmkd_cli.benches.pair_items import PairItems
from mmkd_cli.benches.winoground_files import WinogroundFiles
from mmkd_cli.scenes import swap_files
from mmkd_cli.scenes.negatives import NEGATIVE_KINDS, negative
from tests.scenes.test_swaps import is_true

ITEMS = 10


def picture(items: PairItems, row: int) -> np.ndarray:
    assert items.pictures is not None
    return np.asarray(items.pictures.picture(row))


@pytest.mark.parametrize("name", ["seen", "held-out", "counts"])
def test_winoground_reads_both_pictures_and_both_captions_of_every_swap(name: str, tmp_path: Path) -> None:
    swap_files.write("winoground", tmp_path, name, items=ITEMS, seed=5)
    items = WinogroundFiles.find(str(tmp_path), None).read(with_pictures=True)
    part = items.parts[""]
    kinds = swap_files.SETS.get(name, (name,))
    assert [note["tag"] for note in part.notes or ()] == [kind for kind in kinds for _ in range(ITEMS)]
    for number, note in enumerate(part.notes or ()):
        swap = scenes.swap(note["tag"], 5, number % ITEMS)
        assert note["collapsed_tag"] == ("Object" if "relations" in note["tag"] else "Relation")
        for k, (image, text) in enumerate(part.pairs[number].tolist()):
            assert items.texts[text] == swap.captions[k // 2]
            assert np.array_equal(picture(items, image), scenes.draw(swap.scenes[k % 2]))


@pytest.mark.parametrize("name", ["seen", "held-out"])
def test_aro_reads_true_captions_first_and_leaves_no_group_out(name: str, tmp_path: Path) -> None:
    swap_files.write("aro", tmp_path, name, items=ITEMS, seed=5)
    files = aro_files.annotation_files(str(tmp_path))
    crops = {task: file for task, file in files.items() if task.startswith("vg")}
    folders = aro_files.image_folders(str(tmp_path), None)
    items = aro_files.read(crops, folders, None)
    kinds = ("seen-pairs", "seen-relations") if name == "seen" else ("held-out-combinations", "held-out-relations")
    swaps = [scenes.swap(kind, 5, index) for kind in kinds for index in range(1500 if name == "seen" else 200)]
    drawn = {scenes.draw(scene).tobytes(): scene for swap in swaps for scene in [swap.scenes[swap.shown]]}
    for part in items.parts.values():
        for pairs in part.pairs:
            scene = drawn[picture(items, pairs[0, 0]).tobytes()]
            assert [is_true(items.texts[text], scene) for text in pairs[:, 1]] == [True, False]
            assert bool(scene.held_out) == (name == "held-out")
    groups = Counter(items.parts["vg_attribution"].group or ())
    assert len(groups) == (28 if name == "seen" else 4) and set(groups.values()) == {swap_files.GROUP}
    assert set(items.parts["vg_relation"].group or ()) <= {"left of", "right of", "above", "below"}
    assert set(files) == {"vg_relation", "vg_attribution", "coco_order"}
    assert len(list((tmp_path / "val2014").iterdir())) == ITEMS // 5


@pytest.mark.parametrize("held_out", [False, True])
def test_sugarcrepe_reads_all_seven_files(held_out: bool, tmp_path: Path) -> None:
    swap_files.write("sugarcrepe", tmp_path, "held-out" if held_out else "seen", items=ITEMS, seed=5)
    files = sugarcrepe_files.annotation_files(str(tmp_path))
    items = sugarcrepe_files.read(files, sugarcrepe_files.image_folders(str(tmp_path), None))
    assert set(items.parts) == set(NEGATIVE_KINDS)
    for kind, part in items.parts.items():
        for index, pairs in enumerate(part.pairs.tolist()):
            made = negative(kind, 5, index, held_out=held_out)
            assert [items.texts[text] for _, text in pairs] == [made.caption, made.negative]
            assert np.array_equal(picture(items, pairs[0][0]), scenes.draw(made.scene))


def test_the_same_arguments_write_the_same_files(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        swap_files.write("winoground", tmp_path / folder, "seen-pairs", items=3)
    names = sorted(file.relative_to(tmp_path / "first") for file in (tmp_path / "first").rglob("*.*"))
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    with Image.open(tmp_path / "first" / "images" / "ex_0_img_0.png") as opened:
        assert opened.size == (64, 64)


@pytest.mark.parametrize(("layout", "name"), [("aro", "seen-pairs"), ("vqa", "seen"), ("winoground", "all")])
def test_a_set_that_is_not_there_is_refused(layout: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name one of winoground, aro, sugarcrepe and of seen, held-out"):
        swap_files.write(layout, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()
