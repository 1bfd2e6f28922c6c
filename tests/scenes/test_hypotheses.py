"""Hypotheses: labels by a grammar of their own, nothing to be had from the text alone, files in SNLI-VE's layout."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from mmkd_cli import scenes
from mmkd_cli.core.errors import UserError
from mmkd_cli.scenes import GROUP, HYPOTHESES, LABELS, SceneObject, hypotheses, question_files
from tests.data.sources.reading import rows, source

GROUPS = [(split, group) for split in scenes.SPLITS for group in range(4)]
FILLS = {"solid": "solid", "outlined": "outline", "striped": "striped"}


def holds(text: str, scene: scenes.Scene) -> str:
    """The label by the sentence's words, read by themselves: of all objects that its subject names."""
    said = re.fullmatch(r"The (?:(\w+) shape|(\w+)) is (?:a )?(.+)\.", text)
    assert said, text

    def those(word: str) -> list[SceneObject]:
        return [item for item in scene.objects if word in ("shape", item.colour, item.shape)]

    subjects, what = those(said[1] or said[2]), said[3]
    if between := re.fullmatch(r"(left of|right of|above|below) the (\w+)(?: shape)?", what):
        found = []
        for one in subjects:
            for other in those(between[2]):
                assert one is not other
                across, down = other.x - one.x, other.y - one.y
                if max(abs(across), abs(down)) < abs(one.radius - other.radius):  # one in the other
                    found.append(False)
                    continue
                assert abs(across) != abs(down)
                level = abs(across) > abs(down)
                way = ("left of" if across > 0 else "right of") if level else "above" if down > 0 else "below"
                found.append(way == between[1])
    else:
        where = {"on the left": lambda i: i.x < 25, "on the right": lambda i: i.x > 39,
                 "at the top": lambda i: i.y < 25, "at the bottom": lambda i: i.y > 39}  # fmt: skip
        word = FILLS.get(what, what)
        found = [where[what](one) if what in where else word in (one.colour, one.shape, one.fill, one.size)
                 for one in subjects]  # fmt: skip
    assert found
    return "entailment" if all(found) else "neutral" if any(found) else "contradiction"


@pytest.mark.parametrize(("plain", "objects"), [(False, 0), (True, 0), (False, 3)])
def test_labels_are_what_the_pictures_show(plain: bool, objects: int) -> None:
    kinds: Counter[str] = Counter()
    for split, group in GROUPS:
        for one in hypotheses(3, group, split, objects, plain=plain):
            assert group * GROUP <= one.row < (group + 1) * GROUP
            assert holds(one.text, scenes.scene(3, one.row, split, objects, plain=plain)) == one.label, one
            kinds[one.text.split(" is ")[1].split()[0]] += 1
    assert {"red.", "a", "on", "at", "left", "below"} <= kinds.keys() and len(kinds) > 15


def test_of_every_text_a_third_has_each_label() -> None:
    """The hypothesis alone, and the labels' shares, tell nothing: of each group, so of every number of them."""
    for split, group in GROUPS:
        by_text = defaultdict(list)
        for one in hypotheses(0, group, split):
            by_text[one.text].append(one.label)
        assert len(by_text) == GROUP and all(sorted(labels) == sorted(LABELS) for labels in by_text.values())


def test_whoever_learns_the_texts_by_heart_is_right_in_a_third() -> None:
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for group in range(12):
        for one in hypotheses(0, group, "train"):
            for word in (one.text, *one.text.split()):
                given[word][one.label] += 1
    found = [one for group in range(4) for one in hypotheses(0, group, "val")]
    for words in (lambda text: [text], str.split):
        guesses = [sum((given[word] for word in words(one.text)), Counter()) or Counter(LABELS) for one in found]
        right = sum(one.label == guess.most_common(1)[0][0] for one, guess in zip(found, guesses, strict=True))
        assert right == len(found) // 3


@pytest.mark.parametrize(("plain", "right"), [(False, 45), (True, 42)])
def test_whoever_counts_the_objects_and_reads_nothing_is_right_in_some(plain: bool, right: int) -> None:
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for group in range(10):
        for one in hypotheses(0, group, "train", plain=plain):
            labels[len(scenes.scene(0, one.row, "train", plain=plain).objects)][one.label] += 1
    share = sum(max(found.values()) for found in labels.values()) / (10 * GROUP * HYPOTHESES)
    assert 100 * share == pytest.approx(right, abs=4)


def test_pictures_have_about_as_many_and_none_twice_the_same() -> None:
    for split, group in GROUPS:
        found = hypotheses(0, group, split)
        times = Counter(one.row for one in found)
        assert len(found) == GROUP * HYPOTHESES and len(set(found)) == len(found)
        assert len(times) > 0.8 * GROUP and max(times.values()) < GROUP / 3
        assert list(found) == sorted(found) == list(hypotheses(0, group, split))
    assert hypotheses(0, 0, "train") != hypotheses(1, 0, "train")


def test_single_objects_leave_nothing_open() -> None:
    with pytest.raises(ValueError, match="too few texts have every label"):
        hypotheses(0, 0, "train", 1)
    with pytest.raises(UserError, match="single objects leave nothing open"):
        source("scenes", hypotheses=True, objects=1)
    with pytest.raises(UserError, match=r"source\.val is 20: ask for more"):
        source("scenes", hypotheses=True, train=32, val=20)


def test_files_in_snli_ves_layout_are_read_as_the_source_writes_them(tmp_path: Path) -> None:
    question_files.write(tmp_path, "val", 70, seed=3)
    by_files = source("snli-ve", images=tmp_path / "images", annotations=tmp_path)
    drawn = source("scenes", seed=3, train=0, val=70, test=0, hypotheses=True)
    assert not list(by_files.missing())
    found, own = rows(by_files, "questions", "val"), rows(drawn, "questions", "val")
    assert len(own) == 2 * GROUP * HYPOTHESES and len({row["question_id"] for row in own}) == len(own)
    names = [[row["image_id"] for row in rows(one, "images", "val")] for one in (by_files, drawn)]
    for one, other in zip(found, own, strict=True):
        assert names[0][one.pop("image_row")] == names[1][other.pop("image_row")] and one == other
    first = json.loads((tmp_path / "snli_ve_dev.jsonl").read_text().splitlines()[0])
    assert first["pairID"].startswith("val-0000") and first["pairID"].startswith(first["captionID"])
    assert first["Flickr30K_ID"] in names[1] and first["sentence1"] and first["gold_label"] in LABELS


def test_hypotheses_are_read_by_range() -> None:
    (table,) = (t for t in source("scenes", train=64, val=0, test=0, hypotheses=True).tables() if t.name == "questions")
    whole = list(table.read(0, table.rows))
    assert [*table.read(0, 50), *table.read(50, 150), *table.read(150, table.rows)] == whole
