"""Summaries and rewritten sentences: the files that are read, ROUGE and BLEU against slow calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_cli.benches import written_texts
from mmkd_cli.benches.runner import open_bench
from mmkd_cli.benches.text_files import paired_texts, read_references
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.bleu import bleu_scores
from mmkd_cli.metrics.rouge import NAMES, rouge
from tests.benches.text_bench_files import SUMMARIES, summaries, write, yelp

FIELDS = ("summary", "text")


def paired(said: Path, true: Path, names: Sequence[str], reference_names: Sequence[str] | None = None) -> Any:
    return paired_texts(said, names, read_references(true, reference_names or names), f"references {true}")


def run(bench: str, keys: dict[str, Any], predictions: Path, **more: Any) -> Scores:
    return open_bench({"name": bench, "bootstrap": 50, **keys, **more}).run(BenchInput(predictions=predictions))


@pytest.mark.parametrize("bench", ["xsum", "cnn-dailymail"])
def test_summaries_by_rouge(tmp_path: Path, bench: str) -> None:
    keys, predictions = summaries(tmp_path)
    found = run(bench, keys, predictions)
    each = [rouge(text.replace("a", "the"), text) for text in SUMMARIES]
    assert found.metrics == pytest.approx({name: 100 * np.mean([one[name] for one in each]) for name in NAMES})
    assert 0 < found.metrics["rouge2"] < found.metrics["rouge1"] < 100
    assert all(low <= found.metrics[name] <= high for name, (low, high) in found.intervals.items())
    lines = list(found.items)
    assert [line["id"] for line in lines] == [f"n{n}" for n in range(6)]
    assert lines[0]["scores"]["rougeL"] == pytest.approx(100 * each[0]["rougeL"])
    assert found.counts == {"items": 6, "skipped": 0, "references": 6}


def test_the_best_of_several_references_counts(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl", '{"references": ["no such words", "two men met"]}\n{"summary": "rain fell"}')
    write(tmp_path / "s.txt", "two men met\nrain\n")
    found = run("xsum", {"annotations": str(tmp_path / "r.jsonl")}, tmp_path / "s.txt")
    assert [line["scores"]["rouge1"] for line in found.items] == pytest.approx([100, 200 / 3])


def test_yelp_by_corpus_bleu(tmp_path: Path) -> None:
    keys, predictions = yelp(tmp_path)
    found = run("yelp", keys, predictions)
    texts = [text.replace("\n", " ") for text in SUMMARIES]
    expected = bleu_scores(
        {n: [text, f"{text} indeed"] for n, text in enumerate(texts)},
        {n: [line] for n, line in enumerate(predictions.read_text().splitlines())},
    )["Bleu_4"]
    assert found.metrics == {"bleu": pytest.approx(100 * expected.value)} and found.counts["references"] == 12
    assert found.metrics["bleu"] > 90


def test_papers_rows_stand_beside_the_published_number_of_items_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, predictions = summaries(tmp_path)
    assert run("cnn-dailymail", keys, predictions).quoted == []
    monkeypatch.setattr(written_texts.CnnDailymail, "official_items", 6)
    (row,) = run("cnn-dailymail", keys, predictions).quoted
    assert row["metrics"] == {"rouge1": 44.16, "rouge2": 21.28, "rougeLsum": 40.9} and "tenths" in row["note"]


def test_rows_with_ids_lines_without_and_both(tmp_path: Path) -> None:
    rows, lines = tmp_path / "r.json", tmp_path / "s.hypo"
    write(rows, [{"id": 5, "summary": "five"}, {"id": "6", "text": "six"}])
    write(lines, "fünf\n\n")
    assert paired(lines, rows, FIELDS) == (["1", "2"], ["fünf", ""], [["five"], ["six"]])
    said = tmp_path / "s.json"
    write(said, [{"id": "6", "summary": "sechs"}, {"id": "5", "summary": "fuenf"}])
    assert paired(said, rows, FIELDS) == (["5", "6"], ["fuenf", "sechs"], [["five"], ["six"]])
    write(tmp_path / "t.target", "plain\nsource\tone\ttwo")
    assert paired(said, tmp_path / "t.target", FIELDS)[2] == [["plain"], ["one", "two"]]


@pytest.mark.parametrize(
    ("said", "true", "complaint"),
    [
        ("a\nb\nc\n", "a\nb\n", r"line: 1 are not in the annotations \(the first: '3'\)"),
        ("a\n", "a\nb\nc\n", r"line: 2 of 3 are missing \(the first: '2', '3'\)"),
        ("a\n", "", "there are none"),
    ],
)
def test_lines_that_are_too_many_or_too_few_are_refused(tmp_path: Path, said: str, true: str, complaint: str) -> None:
    write(tmp_path / "s.txt", said)
    write(tmp_path / "t.txt", true)
    with pytest.raises(UserError, match=complaint):
        paired(tmp_path / "s.txt", tmp_path / "t.txt", FIELDS)


def test_rows_of_which_some_have_ids_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.json", [{"id": 1, "summary": "one"}, {"summary": "two"}])
    write(tmp_path / "s.json", [{"id": 2, "summary": "two"}, {"id": 1, "summary": "one"}])
    with pytest.raises(UserError, match=r"t\.json, row 1: field 'id' is missing, other rows have one"):
        paired(tmp_path / "s.json", tmp_path / "t.json", FIELDS)


def test_a_reference_stands_beside_its_source(tmp_path: Path) -> None:
    write(tmp_path / "t.json", [{"id": n, "text": "the food is bad", "reference": "the food is good"} for n in (1, 2)])
    write(tmp_path / "s.json", [{"id": n, "text": "the food is good"} for n in (1, 2)])
    found = run("yelp", {"annotations": str(tmp_path / "t.json")}, tmp_path / "s.json")
    assert found.metrics["bleu"] == pytest.approx(100)


def test_files_that_are_not_of_the_layout_are_named(tmp_path: Path) -> None:
    write(tmp_path / "s.json", [{"id": 1, "other": "x"}])
    write(tmp_path / "t.json", [{"id": 1, "summary": "x"}, {"id": 1, "summary": "x"}])
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(UserError, match=r"s\.json, row 0: field 'summary' is missing, it has 'id', 'other'"):
        paired(tmp_path / "s.json", tmp_path / "t.json", FIELDS)
    write(tmp_path / "s.json", [{"id": 1, "summary": "x"}])
    with pytest.raises(UserError, match="two rows have the id '1'"):
        paired(tmp_path / "s.json", tmp_path / "t.json", FIELDS)
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8"):
        paired(tmp_path / "latin.txt", tmp_path / "latin.txt", FIELDS)
    with pytest.raises(UserError, match=r"gone\.txt is not there"):
        paired(tmp_path / "gone.txt", tmp_path / "gone.txt", FIELDS)
    with pytest.raises(UserError, match="needs references: give --annotations"):
        run("yelp", {}, tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())
