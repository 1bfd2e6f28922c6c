"""Scenes are pure functions of (seed, index, split), and training scenes never hold a held-out combination."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import pytest

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene
from mmkd_cli.scenes.stream import Stream

PINNED_DESCRIPTIONS = "7c12bab27998eac66d93a70f52015c89658fbb2eeccd9823054c3380a7af5f37"
PINNED_CAPTIONS = "550ee185cedc212715457d985410230208b5a14238ac03ebc603a6efdf8164ed"
PINNED_PIXELS = "cc5a25b1e32c0d6357744e3d40e05e21ef57fe07f2654bc8ec3a36e4d7b6a6d0"

HASH_PROGRAM = """
import hashlib
from mmkd_cli import scenes
rows = [scenes.scene(11, index, split) for split in reversed(scenes.SPLITS) for index in reversed(range(40))][::-1]
print(hashlib.sha256(b"".join(scenes.draw(row).tobytes() for row in rows)).hexdigest())
"""


def rows() -> list[Scene]:
    return [scenes.scene(11, index, split) for split in scenes.SPLITS for index in range(40)]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_descriptions_captions_and_pixels_are_those_of_every_release() -> None:
    assert sha256(json.dumps([asdict(row) for row in rows()]).encode()) == PINNED_DESCRIPTIONS
    assert sha256(json.dumps([scenes.captions(row) for row in rows()]).encode()) == PINNED_CAPTIONS
    assert sha256(b"".join(scenes.draw(row).tobytes() for row in rows())) == PINNED_PIXELS


def test_another_process_in_another_order_draws_the_same() -> None:
    command = [sys.executable, "-c", HASH_PROGRAM]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}).stdout
    assert printed.strip() == sha256(b"".join(scenes.draw(row).tobytes() for row in rows()))


def test_seed_split_and_index_each_change_the_scene() -> None:
    base = scenes.scene(0, 0, "train")
    for other in (scenes.scene(1, 0, "train"), scenes.scene(0, 1, "train"), scenes.scene(0, 0, "val")):
        assert other.objects != base.objects
    assert len({scenes.scene(0, index, "train").objects for index in range(3000)}) == 3000


def test_streams_are_philox_as_numpy_documents_it() -> None:
    import numpy as np

    expected = np.random.Philox(key=np.array([9, 1], dtype=np.uint64), counter=np.array([0, 4, 1, 0], dtype=np.uint64))
    stream = Stream(9, "val", 4, 1)
    assert [stream.below(2**64) for _ in range(200)] == expected.random_raw(200).tolist()


@pytest.mark.parametrize("arguments", [(0, 0, "dev"), (-1, 0, "train"), (0, -1, "train")])
def test_a_row_that_cannot_be_is_refused(arguments: tuple[int, int, str]) -> None:
    with pytest.raises(ValueError, match="seed and index are 0 or more, split is one of train, val, test"):
        scenes.scene(*arguments)


def pairs(rows: list[Scene]) -> set[tuple[str, str]]:
    return {(item.colour, item.shape) for row in rows for item in row.objects}


def shape_relations(rows: list[Scene]) -> set[tuple[str, str, str]]:
    return {
        (row.objects[subject].shape, name, row.objects[other].shape)
        for row in rows
        for subject, name, other in scenes.relations(row)
        if name in ("left of", "above", "inside")
    }


def test_held_out_combinations_are_never_seen_in_training_and_their_parts_always() -> None:
    train = [scenes.scene(2, index, "train") for index in range(6000)]
    val = [scenes.scene(2, index, "val") for index in range(1000)]
    test = [scenes.scene(2, index, "test") for index in range(2000)]
    seen_pairs, seen_relations = pairs(train), shape_relations(train)

    assert {row.combination for row in train + val} == {"seen"}
    assert [row.combination for row in test[:4]] == ["seen", "held_out", "seen", "held_out"]
    assert Counter(row.held_out for row in test) == {(): 1000, ("colour-shape",): 500, ("relation",): 500}
    for row in test:
        new_pair = not pairs([row]) <= seen_pairs
        new_relation = not shape_relations([row]) <= seen_relations
        assert (new_pair, new_relation) == ("colour-shape" in row.held_out, "relation" in row.held_out)

    assert len(seen_pairs) == 48
    missing = {(c, s) for c in scenes.COLOURS for s in scenes.SHAPES} - seen_pairs
    for colour in scenes.COLOURS:
        shapes = sorted(s for c, s in missing if c == colour)
        assert len(shapes) == 2
        assert sum(sorted(s for c, s in missing if c == other) == shapes for other in scenes.COLOURS) == 2
    for name in ("left of", "above"):
        assert {a for a, n, _ in seen_relations if n == name} == set(scenes.SHAPES)
        assert {b for _, n, b in seen_relations if n == name} == set(scenes.SHAPES)


def test_the_world_is_varied() -> None:
    rows = [scenes.scene(0, index, "train") for index in range(2000)]
    assert {len(row.objects) for row in rows} == {1, 2, 3, 4}
    for attribute in ("shape", "colour", "size", "fill"):
        counts = Counter(getattr(item, attribute) for row in rows for item in row.objects)
        assert min(counts.values()) > 0.3 * max(counts.values())
    assert Counter(relation.name for row in rows for relation in scenes.relations(row)).keys() == set(scenes.RELATIONS)
    assert {(row.ground.colour, row.ground.texture) for row in rows} == {
        (colour, texture) for colour in scenes.GROUND_COLOURS for texture in scenes.TEXTURES
    }


def test_objects_stand_by_prominence_and_labels_name_the_first() -> None:
    for row in rows():
        order = [(-item.radius, item.x, item.y) for item in row.objects]
        assert order == sorted(order)
        first = row.objects[0]
        for by, name in (
            ("shape", first.shape),
            ("colour", first.colour),
            ("colour-shape", f"{first.colour} {first.shape}"),
        ):
            assert scenes.CLASS_NAMES[by][scenes.class_label(row, by)] == name


@pytest.mark.parametrize("objects", [1, 2, 4])
def test_a_number_of_objects_may_be_asked_for(objects: int) -> None:
    for split in scenes.SPLITS:
        asked = [scenes.scene(4, index, split, objects) for index in range(60)]
        assert {len(row.objects) for row in asked} == {objects}
        assert [row.combination for row in asked] == [scenes.scene(4, index, split).combination for index in range(60)]
    with pytest.raises(ValueError, match="ask for 1 to 4"):
        scenes.scene(0, 0, "val", 5)
