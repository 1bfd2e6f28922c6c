"""Captions are true: an own grammar reads them, own rules of geometry judge them against the description."""

from __future__ import annotations

import re
from itertools import permutations

import numpy as np
import pytest

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene, SceneObject
from mmkd_cli.scenes.vocabulary import VOCABULARY
from tests.scenes.picture_reader import (
    COLOURS,
    GROUND_COLOURS,
    PLACES,
    RELATIONS,
    SHAPES,
    TEXTURES,
    either,
    noun,
    noun_pattern,
)

ROWS = [scenes.scene(5, index, split) for split in scenes.SPLITS for index in range(300)]

OPENING = "(?:there is |a picture of |we see )?"
NOUN = f"(?:an? )({noun_pattern('')})"
RELATED = f"an? {noun_pattern('1')} {either(RELATIONS, 'relation')} an? {noun_pattern('2')}"
PLACED = f"an? {noun_pattern('')} {either(PLACES, 'place')}"
GROUND = f"a {either(TEXTURES, 'texture')} {either(GROUND_COLOURS, 'ground')} (?:{'|'.join(VOCABULARY['grounds'])})"
NUMBER = "(?P<number>one|two|three|four)"
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


def fits(item: SceneObject, said: dict[str, str]) -> bool:
    return all(getattr(item, key) == value for key, value in said.items())


def holds(a: SceneObject, name: str, b: SceneObject) -> bool:
    """Whether a relation holds, from centres and radii alone."""
    dx, dy, near = b.x - a.x, b.y - a.y, a.radius + b.radius
    if name in ("inside", "around"):
        inner, outer = (a, b) if name == "inside" else (b, a)
        return np.hypot(dx, dy) < outer.radius - inner.radius
    if np.hypot(dx, dy) < max(a.radius, b.radius) / 2:
        return False
    if name == "touching":
        return 0 in (dx, dy) and abs(dx) + abs(dy) <= near
    toward = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[name]
    across = abs(dy) if name in ("left of", "right of") else abs(dx)
    return toward > across


def lies(item: SceneObject, place: str) -> bool:
    rows = {"upper": (0, 26), "top": (0, 26), "lower": (38, 64), "bottom": (38, 64)}
    columns = {"left": (0, 26), "right": (38, 64)}
    words = place.split()
    low, high = next((rows[word] for word in words if word in rows), (24, 40))
    if not low <= item.y <= high:
        return False
    low, high = next((columns[word] for word in words if word in columns), (24, 40))
    return low <= item.x <= high


def assert_related_or_placed(row: Scene, text: str) -> None:
    if match := re.fullmatch(RELATED, text):
        name = RELATIONS[match["relation"]]
        first, second = noun(match, "1"), noun(match, "2")
        assert any(fits(a, first) and fits(b, second) and holds(a, name, b) for a, b in permutations(row.objects, 2)), (
            text,
            row,
        )
    else:
        assert_placed(row, text)


def assert_placed(row: Scene, text: str) -> None:
    match = re.fullmatch(PLACED, text)
    assert match, text
    place = PLACES[match["place"]]
    assert any(fits(item, noun(match)) and lies(item, place) for item in row.objects)


def assert_ground(row: Scene, match: re.Match[str]) -> None:
    assert (GROUND_COLOURS[match["ground"]], TEXTURES[match["texture"]]) == (row.ground.colour, row.ground.texture)


def parts_of(text: str) -> list[str]:
    return re.split(r", | and (?=an? |one |two |three |four )", text)


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_relations_are_true(split: str) -> None:
    for row in (row for row in ROWS if row.split == split):
        text = re.sub(f"^{OPENING}", "", scenes.captions(row)[0])
        assert_related_or_placed(row, text)


def test_lists_name_every_object_once() -> None:
    for row in ROWS:
        text = scenes.captions(row)[1]
        if match := re.search(f"{NUMBER} shapes?: ", text):
            assert NUMBERS[match["number"]] == len(row.objects)
        text = re.sub(f"^(?:a picture (?:with|of) |only |just |a single shape, )?(?:{NUMBER} shapes?: )?", "", text)
        matches = [re.fullmatch(f"an? {noun_pattern('')}", part) for part in parts_of(text)]
        assert all(matches), text
        said = [noun(match) for match in matches if match]
        assert len(said) == len(row.objects)
        assert any(all(map(fits, order, said)) for order in permutations(row.objects))


def test_counts_are_those_of_the_scene() -> None:
    for row in ROWS:
        text = scenes.captions(row)[2]
        match = re.fullmatch(f"(?P<counted>.*) on {GROUND}", text)
        assert match, text
        assert_ground(row, match)
        total = 0
        for part in parts_of(match["counted"]):
            number, _, what = part.partition(" ")
            count = NUMBERS[number]
            if what in SHAPES:
                assert count == sum(item.shape == SHAPES[what] for item in row.objects), text
                assert what in [pair[count > 1] for pair in VOCABULARY["shapes"][SHAPES[what]]]
            elif coloured := re.fullmatch(f"{either(COLOURS, 'colour')} shape(s?)", what):
                assert count == sum(item.colour == COLOURS[coloured["colour"]] for item in row.objects), text
                assert (coloured[2] == "s") == (count > 1)
            else:
                only = re.fullmatch(noun_pattern(""), what)
                assert only and count == len(row.objects) == 1 and fits(row.objects[0], noun(only)), text
            total += count
        assert total == len(row.objects)


def test_places_are_true() -> None:
    for row in ROWS:
        text = re.sub("^(?:there is |we see )?", "", scenes.captions(row)[3])
        for part in parts_of(text):
            assert_placed(row, part)


def test_grounds_and_what_lies_on_them_are_true() -> None:
    for row in ROWS:
        text = scenes.captions(row)[4]
        match = re.fullmatch(f"on {GROUND}, (?P<related>.*)", text) or re.fullmatch(
            f"(?P<related>.*) on {GROUND}", text
        )
        assert match, text
        assert_ground(row, match)
        assert_related_or_placed(row, match["related"])


def test_articles_fit() -> None:
    text = " ".join(caption for row in ROWS for caption in scenes.captions(row))
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)


def test_captions_tell_scenes_apart_yet_share_words() -> None:
    rows = [scenes.scene(0, index, "train") for index in range(2000)]
    captions = [scenes.captions(row) for row in rows]
    for kind, least in enumerate((0.98, 0.98, 0.95, 0.98, 0.98)):
        texts = [five[kind] for five in captions]
        assert len(set(texts)) >= least * len(texts)
    words = [set(re.findall(r"[a-z-]+", " ".join(five))) for five in captions]
    vocabulary = set.union(*words)
    assert len(vocabulary) < 150
    assert all(sum(word in some for some in words) >= 20 for word in vocabulary)
