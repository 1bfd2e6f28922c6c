"""The benches of answers on small official files. (tests/metrics/test_vqa.py has the accuracy's rules.)"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.benches import vqa as bench_module
from mmkd_cli.benches.runner import open_bench
from mmkd_cli.benches.vqa_files import read_vqa
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.reports.page import render
from tests.benches.text_bench_files import ACCURACIES, ANSWERS, draw_pictures, vqa, write


def run(bench: str, keys: dict[str, Any], predictions: Path, **more: Any) -> Scores:
    return open_bench({"name": bench, "bootstrap": 100, **keys, **more}).run(BenchInput(predictions=predictions))


def test_official_accuracy_by_answer_and_question_type(tmp_path: Path) -> None:
    keys, predictions = vqa(tmp_path)
    found = run("vqav2", keys, predictions)
    assert found.metrics == {
        "overall": round(100 * sum(ACCURACIES) / 6, 2),
        "yes/no": 100.0,
        "number": 90.0,
        "other": round(100 * (0.3 + 1 + 0) / 3, 2),
        "exact_match": 16.67,  # `yes` alone: nothing else is the commonest answer letter by letter
    }
    assert found.metrics["overall"] == 70.0
    assert found.by["question type: what color"] == {"overall": 65.0, "items": 2}
    assert len(found.by) == 5 and next(iter(found.by)) == "question type: what color"
    assert found.counts == {"items": 6, "skipped": 0, "images": 3}
    low, high = found.intervals["overall"]
    assert low < 70 < high
    lines = list(found.items)
    assert [line["accuracy"] for line in lines] == [100 * a for a in ACCURACIES]
    assert [line["right"]["exact_match"] for line in lines] == [True, *[False] * 5]
    assert lines[3]["question"] == "what color <it>?" and lines[3]["image"] == "1"


def test_questions_of_one_picture_are_drawn_together(tmp_path: Path) -> None:
    """Pictures of accuracy 1, .6 and .5: no resample's mean lies outside of them."""
    keys, predictions = vqa(tmp_path)
    found = run("vqav2", keys, predictions, bootstrap=400)
    assert found.intervals["overall"] == pytest.approx((50, 100))
    assert run("vqav2", keys, predictions, bootstrap=0).intervals == {}


def test_a_number_of_questions_that_is_not_the_published_one_is_said(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, predictions = vqa(tmp_path)
    assert run("vqav2", keys, predictions).quoted == []
    assert "vqav2 has 214,354 questions, scored are 6: not what papers report" in capsys.readouterr().err
    monkeypatch.setattr(bench_module.Vqa, "official_questions", 6)
    quoted = run("vqav2", keys, predictions).quoted
    assert {row["model"] for row in quoted} >= {"VLKD, CLIP ViT-L/14 and BART-large"}
    assert "not what papers report" not in capsys.readouterr().err


def test_okvqa_lemmatises_where_spacy_is_and_says_so_where_not(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, predictions = vqa(tmp_path)
    rows = json.loads(predictions.read_text())
    rows[5]["answer"] = "running dogs"
    write(predictions, rows)
    bench_module._lemmatizer.cache_clear()
    monkeypatch.setitem(sys.modules, "spacy", None)
    bench = open_bench({"name": "okvqa", **keys})
    assert bench.scorer() == {"lemmas": "none"}
    assert "overall_lemmatized" not in bench.run(BenchInput(predictions=predictions)).metrics
    assert "overall_lemmatized is left out: spaCy's en_core_web_sm is not here" in capsys.readouterr().err

    def tagged(text: str) -> list[types.SimpleNamespace]:
        lemmas = {"dogs": ("NOUN", "dog"), "running": ("ADJ", "run")}
        return [
            types.SimpleNamespace(
                text=word, pos_=lemmas.get(word, ("X", word))[0], lemma_=lemmas.get(word, ("X", word))[1]
            )
            for word in text.split()
        ]

    spacy = types.ModuleType("spacy")
    spacy.load = lambda name, disable: tagged  # type: ignore[attr-defined]
    bench_module._lemmatizer.cache_clear()
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    lemmas = bench_module._lemmatizer()
    assert lemmas is not None and lemmas("running dogs") == "running dog"
    found = open_bench({"name": "okvqa", **keys}).run(BenchInput(predictions=predictions)).metrics
    assert found["overall_lemmatized"] == found["overall"]  # `running dog` is not `dog`
    bench_module._lemmatizer.cache_clear()


def test_the_page_shows_pictures_questions_and_what_people_say(tmp_path: Path) -> None:
    keys, predictions = vqa(tmp_path)
    images = draw_pictures(tmp_path / "p", [f"COCO_val2014_{n:012d}.jpg" for n in range(3)])
    page = render("t", run("vqav2", keys, predictions, images=images).page)
    assert page.count("data:image/jpeg") == 6 and "what color &lt;it&gt;?" in page and "8 of 10 people" in page
    plain = draw_pictures(tmp_path / "q", ["0.png", "1.png", "2.png"])
    assert render("t", run("vqav2", keys, predictions, images=plain).page).count("data:image/jpeg") == 6


def test_files_without_choices_and_questions(tmp_path: Path) -> None:
    """OK-VQA's file names no commonest answer: it is counted."""
    keys, _ = vqa(tmp_path)
    path = Path(keys["annotations"])
    document = json.loads(path.read_text())
    for row in document["annotations"]:
        del row["multiple_choice_answer"]
    write(path, document)
    items = read_vqa(path, None)
    assert items.common == ["yes", "no", "3", "green", "don't know", "dog"] and items.asked == [""] * 6
    assert items.answers[1] == ANSWERS[1][3]
    assert items.picture_files(2)[0] == "COCO_val2014_000000000001.jpg"


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("annotations", lambda d: d["annotations"][2].pop("answers"), r"annotations\[2\]: field 'answers' is missing"),
        ("annotations", lambda d: d["annotations"][2]["answers"].clear(), "field 'answers': there are none"),
        ("annotations", lambda d: d["annotations"][1]["answers"].append("x"), r"answers\[10\]: an object is needed"),
        ("annotations", lambda d: d["annotations"].append(d["annotations"][0]), "two annotations .* question_id 1000"),
        ("annotations", lambda d: d["annotations"].clear(), "there are no annotations"),
        ("questions", lambda d: d["questions"].pop(), "1 questions of the annotations are missing, the first: 1005"),
    ],
)  # fmt: skip
def test_files_that_are_not_of_the_layout_are_named(tmp_path: Path, file: str, change: Any, complaint: str) -> None:
    keys, predictions = vqa(tmp_path)
    path = Path(keys[file])
    document = json.loads(path.read_text())
    change(document)
    write(path, document)
    with pytest.raises(UserError, match=complaint):
        run("vqav2", keys, predictions)


def test_answers_that_are_missing_are_refused(tmp_path: Path) -> None:
    keys, predictions = vqa(tmp_path)
    write(predictions, json.loads(predictions.read_text())[:1])
    with pytest.raises(UserError, match=r"question_id: 5 of 6 are missing \(the first: '1001', '1002', '1003'\)"):
        run("vqav2", keys, predictions)
    with pytest.raises(UserError, match="needs the people's answers: give --annotations"):
        run("vqav2", {}, predictions)
