"""VQA v2's accuracy: each rule of the official script by hand."""

from __future__ import annotations

import pytest

from mmkd_cli.metrics.vqa import exact_match, normalized, official_percent, vqa_accuracy


def people(*counted: tuple[str, int]) -> list[str]:
    return [answer for answer, times in counted for _ in range(times)]


@pytest.mark.parametrize(("agree", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1), (10, 1)])
def test_how_many_of_ten_people_agree(agree: int, accuracy: float) -> None:
    answers = people(("red", agree), *((f"colour {n}", 1) for n in range(10 - agree)))
    assert vqa_accuracy("red", answers) == pytest.approx(accuracy)


def test_where_all_people_agree_nothing_is_normalised() -> None:
    assert vqa_accuracy("Yes", people(("yes", 10))) == 0
    assert vqa_accuracy("yes.", people(("yes", 10))) == 0
    assert vqa_accuracy(" yes\n", people(("yes", 10))) == 1
    assert vqa_accuracy("two", people(("2", 10))) == 0
    assert vqa_accuracy("Yes.", people(("yes", 9), ("no", 1))) == 1
    assert vqa_accuracy("two", people(("2", 9), ("3", 1))) == 1
    # They agree where only white space differs.
    assert vqa_accuracy("YES", people(("yes", 5), ("yes\n", 5))) == 0


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        # Full stops: only a digit that follows keeps one, whatever stands before.
        ("u.s.", "us"),
        ("1.5", "1.5"),
        (".5", ".5"),
        ("5.", "5"),
        ("5. 5", "5 5"),
        ("v.1", "v.1"),
        ("." * 32, ""),
        ("." * 40, "." * 8),  # 32 at most, and the whole is applied once
        # Number words, articles, case.
        ("None", "0"),
        ("zero", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("The two dogs and a cat", "2 dogs and cat"),
        ("an", ""),
        # Contractions get their apostrophe back; other apostrophes stay.
        ("dont", "don't"),
        ("DONT know", "don't know"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("its", "its"),
        ("man's", "man's"),
        ("somebody'd", "somebodyd"),
        # Marks: beside a space they go, elsewhere they leave a space.
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("yes, it is", "yes it is"),
        ("yes,it", "yes it"),
        ("(red)", "red"),
        ("what?!", "what"),
        ("x-y -z", "xy z"),
        ("a_b", "b"),
        # A comma between digits makes every mark go, without a space.
        ("1,000", "1000"),
        ("1,000/t-shirt", "1000tshirt"),
        ("", ""),
        ("...", ""),
        ("it's 5:30", "it's 5:30"),
    ],
)
def test_normalisation(answer: str, plain: str) -> None:
    assert normalized(answer) == plain


def test_an_empty_prediction_is_wrong_unless_people_say_nothing_either() -> None:
    assert vqa_accuracy("", people(("yes", 6), ("no", 4))) == 0
    assert vqa_accuracy("", people(("a", 3), ("no", 7))) == pytest.approx(0.9)  # the article goes on both sides
    assert vqa_accuracy("", people(("a", 10))) == 0


def test_other_numbers_of_people() -> None:
    assert vqa_accuracy("red", ["red", "blue"]) == pytest.approx((0 + 1 / 3) / 2)


def test_percent_is_rounded_as_the_script_prints_it() -> None:
    assert official_percent([1, 0, 0]) == 33.33
    assert official_percent([0.3, 0.9, 1.0]) == 73.33


def test_exact_match_normalises_nothing() -> None:
    assert exact_match(" red ", "red")
    assert not exact_match("Red", "red")
    assert not exact_match("2", "two")
