"""The plain world: what its pictures leave out, captions that name all, the same hold-outs, swaps true of their own."""

from __future__ import annotations

import re
from collections import Counter
from itertools import permutations
from pathlib import Path

import datasets
import numpy as np
import pytest

from mmkd_cli import scenes
from mmkd_cli.benches.winoground_files import WinogroundFiles
from mmkd_cli.data.sources.scenes import Scenes, ScenesConfig
from mmkd_cli.scenes import SWAP_KINDS, Scene, SceneObject, swap_files
from mmkd_cli.scenes.negatives import NEGATIVE_KINDS, negative
from mmkd_cli.scenes.vocabulary import VOCABULARY
from tests.scenes.picture_reader import COLOURS, PLACES, RELATIONS, SHAPES, either, noun, noun_pattern
from tests.scenes.test_scene_captions import GROUND, NUMBERS, assert_ground, fits, holds, lies, parts_of
from tests.scenes.test_swaps import is_true

RELATED = f"(?: {either(RELATIONS, 'relation')} an? {noun_pattern('2')})?"
NAMED = re.compile(f"an? {noun_pattern('')}(?: {either(PLACES, 'place')})?{RELATED}")


def plain(seed: int, rows: int, split: str) -> list[Scene]:
    return [scenes.scene(seed, index, split, plain=True) for index in range(rows)]


ROWS = [row for split in scenes.SPLITS for row in plain(5, 200, split)]


def test_pictures_show_solid_objects_that_are_not_small_on_a_ground_without_texture() -> None:
    objects = [item for row in ROWS for item in row.objects]
    assert {item.fill for item in objects} == {"solid"}
    assert {item.size for item in objects} == {"medium", "large"}
    assert {row.ground.texture for row in ROWS} == {"plain"}
    assert {name for row in ROWS for _, name, _ in scenes.relations(row)} == set(scenes.RELATIONS) - {
        "inside",
        "around",
    }
    counts = Counter(len(row.objects) for row in ROWS)
    assert set(counts) == {1, 2, 3, 4} and counts[2] > len(ROWS) / 2


def test_training_shows_the_same_combinations_as_the_whole_world() -> None:
    def shown(rows: list[Scene]) -> tuple[set[object], set[object]]:
        beside = [(row.objects[a].shape, n, row.objects[b].shape) for row in rows for a, n, b in scenes.relations(row)]
        return ({(item.colour, item.shape) for row in rows for item in row.objects},
                {relation for relation in beside if relation[1] in ("left of", "above")})  # fmt: skip

    whole = [scenes.scene(2, index, "train") for index in range(6000)]
    assert shown(plain(2, 6000, "train")) == shown(whole)
    test = plain(2, 400, "test")
    assert Counter(row.held_out for row in test) == {(): 200, ("colour-shape",): 100, ("relation",): 100}
    assert [row.held_out for row in test] == [scenes.scene(2, index, "test").held_out for index in range(400)]


def named(text: str, row: Scene) -> list[SceneObject]:
    """The objects that a caption names, each once; what else it says of them is held to be true."""
    text = re.sub("^(?:there is |a picture of |we see |(?:one|two|three|four) shapes?: )", "", text)
    matches = [NAMED.fullmatch(part) for part in parts_of(text)]
    assert all(matches), text
    for order in permutations(row.objects):
        rest, right = list(order), True
        for match in matches:
            assert match is not None
            item = rest.pop(0)
            right &= fits(item, noun(match)) and (match["place"] is None or lies(item, PLACES[match["place"]]))
            if match["relation"]:
                other = rest.pop(0)
                right &= fits(other, noun(match, "2")) and holds(item, RELATIONS[match["relation"]], other)
        if right and not rest:
            return list(order)
    raise AssertionError((text, row))


def test_captions_name_colour_and_shape_of_every_object_and_say_nothing_false() -> None:
    for row in ROWS:
        related, listed, counted, placed, grounded = scenes.captions(row, plain=True)
        for text in (related, listed, placed):
            named(text, row)
        assert placed.count(" ") > listed.count(" ") or len(row.objects) == 1
        match = re.fullmatch(f"(?P<things>.*) on {GROUND}", grounded)
        assert match is not None
        assert_ground(row, match)
        named(match["things"], row)
        said: Counter[tuple[str, str | None]] = Counter()
        for part in parts_of(counted):
            number, colour, word = part.split()
            shape = None if word.startswith("shape") else SHAPES[word]
            nouns = [pair for pairs in VOCABULARY["shapes"].values() for pair in pairs] + [VOCABULARY["generic"]]
            assert word in [word_pair[NUMBERS[number] > 1] for word_pair in nouns]
            said[COLOURS[colour], shape] += NUMBERS[number]
        bare = any(shape is None for _, shape in said)
        assert said == Counter((item.colour, None if bare else item.shape) for item in row.objects)


@pytest.mark.parametrize("kind", SWAP_KINDS)
def test_swaps_are_plain_and_each_caption_is_true_of_its_own_picture_alone(kind: str) -> None:
    for index in range(60):
        made = scenes.swap(kind, 3, index, plain=True)
        assert [is_true(c, s) for c in made.captions for s in made.scenes] == [True, False, False, True]
        for row in made.scenes:
            assert row.ground.texture == "plain" and {item.fill for item in row.objects} == {"solid"}
        whole = scenes.swap(kind, 3, index)
        assert sorted(map(len, (row.held_out for row in made.scenes))) == sorted(
            map(len, (row.held_out for row in whole.scenes))
        )


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_negatives_are_plain_and_false(kind: str) -> None:
    for index in range(30):
        made = negative(kind, 3, index, held_out=bool(index % 2), plain=True)
        assert is_true(made.caption, made.scene) and not is_true(made.negative, made.scene)
        assert {item.fill for item in made.scene.objects} == {"solid"}


def test_the_source_and_the_files_of_swaps_write_it(tmp_path: Path) -> None:
    source = Scenes(ScenesConfig(plain=True, train=0, val=3, test=0))
    assert source.identity() != Scenes(ScenesConfig(train=0, val=3, test=0)).identity()
    images, texts, _ = source.tables()
    for number, line in enumerate(images.read(0, 3)):
        picture = datasets.Image().decode_example({"bytes": line["image"], "path": None})
        assert np.array_equal(np.asarray(picture), scenes.draw(scenes.scene(0, number, "val", plain=True)))
    expected = [text for row in plain(0, 3, "val") for text in scenes.captions(row, plain=True)]
    assert [line["text"] for line in texts.read(0, 15)] == expected
    swap_files.write("winoground", tmp_path, "seen", items=2, plain=True)
    read = WinogroundFiles.find(str(tmp_path), None).read(with_pictures=True)
    assert read.pictures is not None
    made = scenes.swap("seen-pairs", 0, 1, plain=True)
    assert np.array_equal(np.asarray(read.pictures.picture(2)), scenes.draw(made.scenes[0]))
    for layout in ("aro", "sugarcrepe"):
        swap_files.write(layout, tmp_path / layout, "held-out", items=2, plain=True)
