"""Swaps: same words, each caption true of its own picture alone, held out as their kind says; an own grammar judges."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, replace

import pytest

from mmkd_cli import scenes
from mmkd_cli.scenes import SWAP_KINDS, Scene, Swap
from mmkd_cli.scenes.negatives import NEGATIVE_KINDS, negative
from tests.scenes.picture_reader import COLOURS, FILLS, RELATIONS, SHAPES, either, noun_pattern
from tests.scenes.test_scene_captions import NUMBERS, holds

PINNED = "0d5a0930de49c96e9d2172246239d6e98c2bcee3c13a49cbf2a9993d4a0172e3"
ITEMS = 120
ATTRIBUTE = ("seen-pairs", "held-out-pairs", "held-out-combinations")
RELATION = ("seen-relations", "held-out-relations")

OPENING = "(?:there is |a picture of |we see |two shapes: )?"
LIST = re.compile(f"{OPENING}an? {noun_pattern('1')} and an? {noun_pattern('2')}")
RELATED = re.compile(
    f"{OPENING}an? {noun_pattern('1')} {either(RELATIONS, 'relation')} an? {noun_pattern('2')}"
    f"(?: and an? {noun_pattern('3')})?"
)
COUNTED = re.compile(
    f"(?P<n1>one|two|three) {either(COLOURS, 'colour1')} shapes? "
    f"and (?P<n2>one|two|three) {either(COLOURS, 'colour2')} shapes?"
)


def items(kind: str, count: int = ITEMS) -> list[Swap]:
    return [scenes.swap(kind, 3, index) for index in range(count)]


def is_true(caption: str, scene: Scene) -> bool:
    """Whether a caption says nothing but what a scene shows."""
    if match := COUNTED.fullmatch(caption):
        said = {COLOURS[match[f"colour{k}"]]: NUMBERS[match[f"n{k}"]] for k in (1, 2)}
        return said == Counter(item.colour for item in scene.objects)
    match = LIST.fullmatch(caption) or RELATED.fullmatch(caption)
    assert match is not None, caption
    found = match.groupdict()
    named = []
    for k in "123":
        if found.get(f"shape{k}") is None:
            continue
        fitting = [
            item
            for item in scene.objects
            if (item.colour, item.shape) == (COLOURS[found[f"colour{k}"]], SHAPES[found[f"shape{k}"]])
            and found[f"fill{k}"] in (None, *(word for word, fill in FILLS.items() if fill == item.fill))
        ]
        if not fitting:
            return False
        named.append(fitting[0])
    return found.get("relation") is None or holds(named[0], RELATIONS[found["relation"]], named[1])


@pytest.mark.parametrize("kind", SWAP_KINDS)
def test_each_caption_is_true_of_its_own_picture_alone_and_both_have_the_same_words(kind: str) -> None:
    for swap in items(kind):
        assert [is_true(c, s) for c in swap.captions for s in swap.scenes] == [True, False, False, True]
        first, second = (sorted(re.findall(r"\w+", caption)) for caption in swap.captions)
        assert first == second
        assert swap.captions[0] != swap.captions[1]


def test_nothing_changes_but_what_is_swapped() -> None:
    def bare(swap: Swap, **same: object) -> list[list[str]]:
        return [sorted(map(repr, (replace(item, **same) for item in scene.objects))) for scene in swap.scenes]

    for kind in SWAP_KINDS:
        for swap in items(kind):
            assert swap.scenes[0].ground == swap.scenes[1].ground
            same = {"colour": ""} if kind in ATTRIBUTE else {"x": 0, "y": 0} if kind in RELATION else None
            if same is None:
                same = {"colour": "", "shape": "", "fill": ""}
            first, second = bare(swap, **same)
            assert first == second
            assert bare(swap)[0] != bare(swap)[1]


@pytest.fixture(scope="module")
def training() -> tuple[set[tuple[str, str]], set[tuple[str, str, str]]]:
    """What training shows: colours on shapes, shapes in relations."""
    rows = [scenes.scene(3, index, "train") for index in range(8000)]
    return {pair for row in rows for pair in pairs(row)}, {seen for row in rows for seen in shape_relations(row)}


def pairs(scene: Scene) -> list[tuple[str, str]]:
    return [(item.colour, item.shape) for item in scene.objects]


def shape_relations(scene: Scene) -> set[tuple[str, str, str]]:
    return {
        (scene.objects[a].shape, name, scene.objects[b].shape)
        for a, name, b in scenes.relations(scene)
        if name in ("left of", "above")
    }


@pytest.mark.parametrize(
    ("kind", "unseen_pairs", "unseen_relations"),
    [
        ("seen-pairs", (0, 0), {(0, 0)}),
        ("held-out-pairs", (1, 1), {(0, 0)}),
        ("held-out-combinations", (2, 2), {(0, 0)}),
        ("seen-relations", (0, 0), {(0, 0)}),
        ("held-out-relations", (0, 0), {(0, 1), (1, 0)}),
        ("counts", (0, 0), {(0, 0)}),
    ],
)
def test_pictures_are_held_out_as_their_kind_says(
    kind: str, unseen_pairs: tuple[int, int], unseen_relations: set[tuple[int, int]], training: tuple[set, set]
) -> None:
    seen_pairs, seen_relations = training
    found = set()
    for swap in items(kind):
        assert tuple(sum(pair not in seen_pairs for pair in pairs(scene)) for scene in swap.scenes) == unseen_pairs
        found.add(tuple(len(shape_relations(scene) - seen_relations) for scene in swap.scenes))
        assert [bool(scene.held_out) for scene in swap.scenes] == [
            unseen > 0 or bool(shape_relations(scene) - seen_relations)
            for unseen, scene in zip(unseen_pairs, swap.scenes, strict=True)
        ]
    assert found == unseen_relations


def test_swaps_are_those_of_every_release_in_any_order() -> None:
    rows = {(kind, index): asdict(scenes.swap(kind, 9, index)) for index in (4, 2) for kind in reversed(SWAP_KINDS)}
    text = json.dumps([rows[kind, index] for kind in SWAP_KINDS for index in (2, 4)])
    assert hashlib.sha256(text.encode()).hexdigest() == PINNED
    for kind in SWAP_KINDS:
        distinct = {(swap.captions, swap.scenes[0].objects) for swap in items(kind, 400)}
        assert len(distinct) == 400
        assert scenes.swap(kind, 1, 0).scenes[0].objects != scenes.swap(kind, 2, 0).scenes[0].objects


def test_a_kind_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="name one of seen-pairs, "):
        scenes.swap("pairs", 0, 0)
    with pytest.raises(ValueError, match="name one of add_att, "):
        negative("swap", 0, 0)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_negatives_are_false_and_what_they_are_made_from_is_true(kind: str, held_out: bool) -> None:
    for index in range(ITEMS):
        made = negative(kind, 3, index, held_out=held_out)
        assert is_true(made.caption, made.scene)
        assert not is_true(made.negative, made.scene)
        assert bool(made.scene.held_out) == held_out
        words, changed = made.caption.split(), made.negative.split()
        if kind.startswith("swap"):
            assert Counter(words) == Counter(changed)
        elif kind == "add_obj":
            assert changed[: len(words)] == words
        else:
            assert len(set(changed) - set(words) - {"a", "an"}) == 1
