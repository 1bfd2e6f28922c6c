"""`evaluate --predictions`: result files from the command line, requests, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.metrics import captions
from mmkd_cli.stages import evaluate
from tests.benches.text_bench_files import MAKERS, coco_caption, vqa, write
from tests.conftest import Run
from tests.stages.small_chain import config_of, context


@pytest.fixture(autouse=True)
def without_java(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """METEOR takes half a minute to start; tests/metrics/test_captions.py runs it."""
    monkeypatch.setattr(captions, "has_java", lambda: False)


def evaluated(root: Path, name: str | None, bench: str, made: Any, **keys: Any) -> dict[str, Any]:
    own, predictions = made
    named = {f"bench__{key}": value for key, value in own.items()}
    config = config_of(evaluate, bench__name=bench, predictions=str(predictions), **named, **keys)
    return evaluate.run(config, context(root, name))


def test_a_result_file_from_the_command_line(mmkd: Run, tmp_path: Path) -> None:
    keys, predictions = coco_caption(tmp_path)
    (tmp_path / "bin").mkdir()
    call = ["evaluate", "--bench", "coco-caption", "--predictions", predictions, "--annotations", keys["annotations"]]
    env = {"PATH": str(tmp_path / "bin")}  # without java
    done = mmkd(*call, "--json", env=env)
    document = json.loads(done.stdout)
    assert document["split"] == "val" and document["model"] == {"name": "results.json", "kind": "predictions"}
    assert document["zero_shot"]["value"] is None and set(document["fingerprints"]) == {"annotations", "predictions"}
    assert document["scorer"] == {
        "tokenizer": "mmkd PTB (as Stanford PTBTokenizer 3.4.1)",
        "metrics": "Bleu_1 Bleu_2 Bleu_3 Bleu_4 ROUGE_L CIDEr",
    }
    assert done.stderr.count("METEOR is left out: java is not there") == 1
    (folder,) = (tmp_path / "work" / "results").iterdir()
    assert folder.name.startswith("coco-caption-results-")
    assert {path.name for path in folder.iterdir()} >= {"scores.json", "predictions.jsonl", "report.html"}
    again = mmkd(*call, "--json", env=env)
    assert json.loads(again.stdout) == document and "already done" in again.stderr

    write(predictions, json.loads(predictions.read_text())[:2])
    said = mmkd(*call, env=env, code=2).stderr
    assert "image_id: 4 of 6 are missing (the first: '10', '11', '12')" in said and "Traceback" not in said
    assert len(list((tmp_path / "work" / "results").iterdir())) == 1  # nothing is left behind


def test_answers_from_the_command_line(mmkd: Run, tmp_path: Path) -> None:
    keys, predictions = vqa(tmp_path)
    call = ["evaluate", "--bench", "vqav2", "--predictions", predictions, "--annotations", keys["annotations"]]
    document = json.loads(mmkd(*call, "--questions", keys["questions"], "--json").stdout)
    assert document["metrics"]["overall"] == 70.0 and document["split"] == "val" and "scorer" not in document
    assert set(document["fingerprints"]) == {"annotations", "questions", "predictions"}
    dry = json.loads(mmkd(*call, "--dry-run", "--json").stdout)
    assert dry["rows"] == 6 and dry["status"] == "dry run"
    said = mmkd("evaluate", "--bench", "retrieval", "--questions", keys["questions"], code=2).stderr
    assert "--questions: bench 'retrieval' has no key 'questions'" in said


@pytest.mark.parametrize("bench", ["nocaps", "flickr8k-caption", "okvqa", "yelp"])
def test_every_bench_makes_a_result_whose_name_is_free_for_another_file(tmp_path: Path, bench: str) -> None:
    made = MAKERS[bench](tmp_path)
    first = evaluated(tmp_path / "work", "r", bench, made)
    assert evaluated(tmp_path / "work", "r", bench, made) == first
    assert artifacts.open_artifact(tmp_path / "work", "r", "result").content["rows"] == 6
    moved = made[1].rename(tmp_path / f"moved{made[1].suffix}")
    assert evaluated(tmp_path / "work", "r", bench, (made[0], moved)) == first  # known by its content
    moved.write_text(moved.read_text() + " ")
    with pytest.raises(Refused, match=r"made by another command: files.predictions was"):
        evaluated(tmp_path / "work", "r", bench, (made[0], moved))


def test_what_a_score_depends_on_is_part_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MAKERS["flickr8k-caption"](tmp_path)
    evaluated(tmp_path / "work", "r", "flickr8k-caption", made)
    assert evaluated(tmp_path / "work", "r", "flickr8k-caption", made, bench__tokenizer="mmkd")["bench"]
    with pytest.raises(Refused, match=r"made by another command: split was"):
        evaluated(tmp_path / "work", "r", "flickr8k-caption", made, split="train")
    monkeypatch.setattr(captions, "has_java", lambda: True)
    with pytest.raises(Refused, match=r"made by another command: scorer\.\w+ was"):
        evaluated(tmp_path / "work", "r", "flickr8k-caption", made)


@pytest.mark.parametrize(
    ("bench", "keys", "complaint"),
    [
        ("coco-caption", {}, "bench 'coco-caption' scores texts that are written: give --predictions FILE"),
        ("coco-caption", {"model": "x"}, r"`mmkd generate --task caption --model x --name NAME`\), then give --predic"),
        ("vqav2", {"model": "x"}, "mmkd generate --task vqa --model x --name NAME"),
        ("yelp", {}, "mmkd generate --task text --model RUN --name NAME"),
        ("coco-caption", {"predictions": "p", "model": "x"}, "--predictions takes the place of --model"),
        ("coco-caption", {"predictions": "p", "embeddings": "e"}, "--predictions takes the place of --embeddings"),
        ("coco-caption", {"predictions": "p"}, "predictions p is not a file: give the bench's result file"),
        ("retrieval", {"predictions": "p"}, "--predictions: bench 'retrieval' scores no result files"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path: Path, bench: str, keys: dict[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        evaluate.run(config_of(evaluate, bench__name=bench, **keys), context(tmp_path / "work"))


def test_results_are_compared_where_items_are_right_or_wrong(tmp_path: Path) -> None:
    keys, predictions = vqa(tmp_path)
    evaluated(tmp_path / "work", "before", "vqav2", (keys, predictions))
    better = json.loads(predictions.read_text())
    better[1]["answer"] = "no"
    write(tmp_path / "better.json", better)
    made = (keys, tmp_path / "better.json")
    said = evaluated(tmp_path / "work", "after", "vqav2", made, against="before")["against"]
    assert said["changed"] == [{"id": "1001", "gained": ["exact_match"], "lost": []}]
