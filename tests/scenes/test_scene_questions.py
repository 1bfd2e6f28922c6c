"""Questions are answered by what the picture shows, read by a grammar of their own; guessers are near chance."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from mmkd_cli import scenes
from mmkd_cli.metrics.vqa import vqa_accuracy
from mmkd_cli.scenes import Question, Scene, SceneObject, question_files
from mmkd_cli.scenes.questions import PEOPLE, QUESTION_TYPES
from mmkd_cli.scenes.splits import is_held_out_pair
from tests.data.sources.reading import rows, source

ROWS = [scenes.scene(5, index, split) for split in scenes.SPLITS for index in range(200)]
COLOUR, SHAPE = "|".join(scenes.COLOURS), "|".join(scenes.SHAPES)
FILLS = {"solid": "solid", "outlined": "outline", "striped": "striped"}
THIRDS = ("left", "centre", "right"), ("top", "centre", "bottom")


def place(item: SceneObject) -> str:
    """The ninth in which an object's centre lies, by thirds of 64 units around the middle 25 to 39."""
    column, row = (0 if at < 25 else 1 if at <= 39 else 2 for at in (item.x, item.y))
    if column == row == 1:
        return "centre"
    if column == 1 or row == 1:
        return THIRDS[0][column] if row == 1 else THIRDS[1][row]
    return f"{('upper', '', 'lower')[row]} {THIRDS[0][column]}"


def lies(a: SceneObject, b: SceneObject, how: str) -> bool:
    return {"left of": a.x < b.x, "right of": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[how]


def answer(scene: Scene, text: str) -> str:
    """What the question's words ask of the description; the object that it names must be the only one."""

    def those(words: str) -> list[SceneObject]:
        colour, shape = re.search(f"({COLOUR})", words), re.search(f"({SHAPE})", words)
        return [item for item in scene.objects
                if (not colour or item.colour == colour[1]) and (not shape or item.shape == shape[1])]  # fmt: skip

    def one(words: str) -> SceneObject:
        (item,) = those(words)
        return item

    if said := re.fullmatch(r"is there an? (.+)\?|are there any (.+)\?", text):
        return "yes" if those(said[1] or said[2]) else "no"
    if said := re.fullmatch(r"how many (.+) are there\?", text):
        return str(len(those(said[1])))
    if said := re.fullmatch(r"is the background (\w+)\?", text):
        return "yes" if scene.ground.colour == said[1] else "no"
    if said := re.fullmatch(r"is the (.+) (left of|right of|above|below) the (.+)\?", text):
        return "yes" if lies(one(said[1]), one(said[3]), said[2]) else "no"
    if said := re.fullmatch(r"is the (.+) (solid|outlined|striped)\?", text):
        return "yes" if one(said[1]).fill == FILLS[said[2]] else "no"
    if said := re.fullmatch(rf"is the (.+) ({COLOUR})\?", text):
        return "yes" if one(said[1]).colour == said[2] else "no"
    if said := re.fullmatch(r"what color is the (.+)\?", text):
        return scene.ground.colour if said[1] == "background" else one(said[1]).colour
    if said := re.fullmatch(r"what is the (.+) shape\?", text):
        return one(said[1]).shape
    if text == "what is the texture of the background?":
        return scene.ground.texture
    return place(one(re.fullmatch(r"where is the (.+)\?", text)[1]))  # type: ignore[index]


def test_every_answer_is_what_the_picture_shows() -> None:
    for scene in ROWS:
        asked = scenes.questions(scene)
        assert [one.answer_type for one in asked] == ["yes/no", "yes/no", "number", "other", "other"]
        assert len({one.text for one in asked}) == scenes.QUESTIONS
        for one in asked:
            assert one.answer == answer(scene, one.text), (scene, one)


def test_ten_people_of_whom_most_agree() -> None:
    every = [one for scene in ROWS for one in scenes.questions(scene)]
    assert all(len(one.answers) == PEOPLE and vqa_accuracy(one.answer, one.answers) == 1 for one in every)
    assert all(one.answers.count(one.answer) >= 6 and one.text.startswith(one.question_type) for one in every)
    assert {one.question_type for one in every} == {*QUESTION_TYPES}
    share = np.mean([len({*one.answers}) > 1 for one in every])
    assert 0.3 < share < 0.6  # those on which somebody disagrees
    assert any(one.answers[0] != one.answer for one in every)  # the truth does not always come first


def test_a_row_is_a_pure_function_of_seed_split_and_index() -> None:
    assert scenes.questions(scenes.scene(5, 7, "val")) == scenes.questions(scenes.scene(5, 7, "val"))
    others = [scenes.scene(5, 8, "val"), scenes.scene(6, 7, "val"), scenes.scene(5, 7, "train")]
    assert len({scenes.questions(scene) for scene in (scenes.scene(5, 7, "val"), *others)}) == 4
    for number in range(40):
        assert len(scenes.questions(scenes.scene(5, number, "train", objects=1))) == scenes.QUESTIONS


def test_what_is_held_out_is_asked_about_where_it_is_shown() -> None:
    """Else the combination alone would say no."""
    asked: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for index in range(1200):
        scene = scenes.scene(5, index, "test")
        for one in scenes.questions(scene):
            if said := re.match(rf"is there an? ({COLOUR}) ({SHAPE})\?", one.text):
                asked[is_held_out_pair(said[1], said[2])][one.answer] += 1
    for counts in asked.values():
        assert counts.total() > 60 and 0.35 < counts["yes"] / counts.total() < 0.65


CHANCE = {"yes/no": 56, "number": 36, "other": 14}
"""Percent, as the module says."""


def test_a_guesser_by_question_type_is_near_chance_by_the_official_accuracy() -> None:
    def asked(split: str, count: int) -> list[Question]:
        return [one for index in range(count) for one in scenes.questions(scenes.scene(0, index, split))]

    given: dict[str, Counter[str]] = defaultdict(Counter)
    for one in asked("train", 1500):
        given[one.question_type].update(one.answers)
    guess = {kind: counts.most_common(1)[0][0] for kind, counts in given.items()}
    found: dict[str, list[float]] = defaultdict(list)
    for one in asked("val", 1500):
        found[one.answer_type].append(100 * vqa_accuracy(guess[one.question_type], one.answers))
    assert {kind: np.mean(values) for kind, values in found.items()} == pytest.approx(CHANCE, abs=4)


def test_files_in_vqas_layout_are_read_as_the_source_writes_them(tmp_path: Path) -> None:
    question_files.write(tmp_path, "val", 6, seed=3)
    by_files = source("vqav2", images=tmp_path / "images", questions=tmp_path, annotations=tmp_path)
    drawn = source("scenes", seed=3, train=0, val=6, test=0)
    assert rows(by_files, "questions", "val") == rows(drawn, "questions", "val")
    assert [r["image_id"] for r in rows(by_files, "images", "val")] == [
        r["image_id"] for r in rows(drawn, "images", "val")
    ]
    assert not list(by_files.missing())
    assert (
        json.loads((tmp_path / "val_annotations.json").read_text())["annotations"][0]["answers"][9]["answer_id"] == 10
    )
