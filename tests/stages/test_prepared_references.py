"""Prepared sets in place of the benches' own files: prepare-data, generate, evaluate; the same scores as by files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import UserError
from mmkd_cli.stages import evaluate, generate, prepare_data
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain, taught

PEOPLE = [("is it", "yes/no", ["yes"] * 9 + ["no"]), ("how many", "number", ["1"] * 5 + ["2"] * 5),
          ("what color is the", "other", ["red"] * 10)]  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run `seeing`; five of its pictures in VQA's and in nocaps' layout, one of which (of VQA) is not there."""
    folder = tmp_path_factory.mktemp("references")
    make_vlkd_chain(folder)
    taught(folder, "seeing", train__max_steps=2)
    asked = [{"question_id": 10 * n + k, "image_id": f"0-{n:03d}", "question": f"{PEOPLE[k][0]} square {n}?"}
             for n in (3, 1, 2, 999) for k in range(3)]  # fmt: skip
    people = [{**one, "question_type": PEOPLE[k][0], "answer_type": PEOPLE[k][1],
               "answers": [{"answer": answer} for answer in PEOPLE[k][2]]}
              for one, k in ((one, one["question_id"] % 10) for one in asked)]  # fmt: skip
    for name, rows in (("questions", asked), ("annotations", people)):
        (folder / f"val2014_{name}.json").write_text(json.dumps({"data_subtype": "val2014", name: rows}))
    images = [{"id": n, "file_name": f"0-{n:03d}.jpg", "domain": domain}
              for n, domain in enumerate(("in-domain", "near-domain", "out-domain", "in-domain"))]  # fmt: skip
    captions = [{"id": 2 * n + k, "image_id": n, "caption": text} for n in range(4)
                for k, text in enumerate(("a red square", "a big thing"))]  # fmt: skip
    (folder / "nocaps_val.json").write_text(json.dumps({"images": images, "annotations": captions}))
    pictures: Any = {"images": str(folder / "squares"), "skip_bad": True}
    prepared(folder, "vqa", "vqav2", questions=str(folder / "val2014_questions.json"),
             annotations=str(folder / "val2014_annotations.json"), **pictures)  # fmt: skip
    prepared(folder, "novel", "nocaps", annotations=str(folder / "nocaps_val.json"), **pictures)
    return folder


def prepared(folder: Path, name: str, source: str, skip_bad: bool = False, **keys: Any) -> dict[str, Any]:
    of_source = {f"source__{key}": value for key, value in keys.items()}
    found = config_of(prepare_data, source__name=source, skip_bad=skip_bad, **of_source)
    return prepare_data.run(found, context(folder / "work", name))


def wrote(folder: Path, name: str, task: str, **keys: Any) -> dict[str, Any]:
    found = config_of(generate, task__name=task, generation__num_beams=1, generation__max_new_tokens=4, **keys)
    return generate.run(found, context(folder / "work", name))


def scored(folder: Path, bench: str, name: str | None = None, **keys: Any) -> dict[str, Any]:
    found = config_of(evaluate, bench__name=bench, bench__bootstrap=0, **keys)
    return evaluate.run(found, context(folder / "work", name))


def test_answers_are_compared_with_the_data_that_they_were_written_from(chain: Path) -> None:
    with pytest.raises(UserError, match="1 rows of the data were rejected"):
        wrote(chain, "answers", "vqa", data="vqa", model="seeing")
    found = wrote(chain, "answers", "vqa", data="vqa", model="seeing", allow_rejected=True)
    said = json.loads(Path(found["predictions"]).read_text())
    assert [row["question_id"] for row in said] == [30, 31, 32, 10, 11, 12, 20, 21, 22] and found["skipped"] == 3
    page = (chain / "work/results/answers/report.html").read_text()
    assert "9 of 10 people" in page and "5 of 10 people" in page
    document = scored(chain, "vqav2", "by-data", predictions="answers")
    assert document["counts"] == {"items": 9, "skipped": 3, "images": 3} and document["split"] == "val"
    assert set(document["fingerprints"]) == {"data", "predictions"}
    kept = [i.role for i in artifacts.open_artifact(chain / "work", "by-data", "result").inputs]
    assert kept == ["predictions", "data"]
    page = (chain / "work/results/by-data/report.html").read_text()
    assert page.count("<img") >= 9 and "9 of 10 people" in page
    lines = [json.loads(line) for line in (chain / "work/results/by-data/predictions.jsonl").read_text().splitlines()]
    assert lines[0]["image"] == "0-003" and lines[0]["question"] == "is it square 3?"
    # the official file with the picture that is not there left out
    people = json.loads((chain / "val2014_annotations.json").read_text())
    people["annotations"] = [row for row in people["annotations"] if row["image_id"] != "0-999"]
    (chain / "kept_annotations.json").write_text(json.dumps(people))
    by_file = scored(chain, "vqav2", predictions="answers", bench__annotations=str(chain / "kept_annotations.json"))
    assert by_file["metrics"] == document["metrics"] and by_file["by"] == document["by"]


def test_anybodys_answers_by_named_data(chain: Path) -> None:
    """All twelve are answered there; the three of the picture that is not there are left out."""
    asked = json.loads((chain / "val2014_questions.json").read_text())["questions"]
    right = [
        {"question_id": one["question_id"], "answer": ("yes", "1", "red")[one["question_id"] % 10]} for one in asked
    ]
    (chain / "all.json").write_text(json.dumps(right))
    found = scored(chain, "okvqa", predictions=str(chain / "all.json"), data="vqa")
    assert found["counts"]["items"] == 9
    assert found["metrics"]["other"] == 100 and found["metrics"]["number"] == 100 and found["metrics"]["yes/no"] == 100
    file = str(chain / "val2014_annotations.json")
    with pytest.raises(UserError, match="--annotations takes the place of --data"):
        scored(chain, "vqav2", predictions=str(chain / "all.json"), data="vqa", bench__annotations=file)
    with pytest.raises(
        UserError, match=r"needs the people's answers: give --annotations .*, or prepared data by --data"
    ):
        scored(chain, "vqav2", predictions=str(chain / "all.json"))
    with pytest.raises(UserError, match="has no table 'questions'"):
        scored(chain, "vqav2", predictions=str(chain / "all.json"), data="squares")
    with pytest.raises(UserError, match="has no split 'test'"):
        scored(chain, "vqav2", predictions=str(chain / "all.json"), data="vqa", split="test")
    prepared(chain, "unanswered", "vqav2", images=str(chain / "squares"), skip_bad=True,
             questions=str(chain / "val2014_questions.json"))  # fmt: skip
    with pytest.raises(UserError, match="'val' has questions without answers"):
        scored(chain, "vqav2", predictions=str(chain / "all.json"), data="unanswered")


def test_captions_by_domain(chain: Path) -> None:
    wrote(chain, "captions", "caption", data="novel", model="seeing")
    document = scored(chain, "nocaps", "nocaps-by-data", predictions="captions", bench__tokenizer="mmkd")
    assert document["counts"] == {"items": 4, "skipped": 0, "references": 8}
    file = str(chain / "nocaps_val.json")
    by_file = scored(chain, "nocaps", predictions="captions", bench__tokenizer="mmkd", bench__annotations=file)
    assert by_file["metrics"] == document["metrics"] and by_file["by"] == document["by"]
    assert [document["by"][name]["items"] for name in ("in-domain", "near-domain", "out-domain")] == [2, 1, 1]
    wrote(chain, "plain", "caption", data="squares", split="val", model="seeing")
    karpathy = str(chain / "squares/annotations.json")
    one = scored(chain, "flickr8k-caption", predictions="plain", bench__tokenizer="mmkd")
    keys = {"predictions": "plain", "bench__tokenizer": "mmkd", "bench__annotations": karpathy, "split": "val"}
    assert one["split"] == "val" and one["metrics"] == scored(chain, "flickr8k-caption", **keys)["metrics"]


def test_pictures_of_no_domain_are_refused_before_anything_is_scored(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmkd_cli.benches.captions.caption_scores", lambda *given: pytest.fail("it was scored"))
    wrote(chain, "plain", "caption", data="squares", split="val", model="seeing")
    with pytest.raises(UserError, match="data 'squares': domain '' of an image is none of in-domain"):
        scored(chain, "nocaps", predictions="plain", bench__tokenizer="mmkd")
    with pytest.raises(UserError, match=r"annotations.json: domain '' of an image is none of in-domain"):
        scored(chain, "nocaps", predictions="plain", bench__tokenizer="mmkd", split="val",
               bench__annotations=str(chain / "squares/annotations.json"))  # fmt: skip


def test_summaries_and_rewritings(chain: Path) -> None:
    for name, column in (("articles", "summary"), ("sentences", "references")):
        said: Any = [
            f"it is square number {n}" if column == "summary" else [f"it is square number {n}", "it"] for n in range(3)
        ]
        rows = [
            {"text": f"A square {n}.", "document": f"A square {n}.", "id": f"n{n}", column: said[n]} for n in range(3)
        ]
        (chain / name).mkdir()
        (chain / name / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for source, name, bench, metric in (("xsum", "articles", "xsum", "rouge1"), ("yelp", "sentences", "yelp", "bleu")):
        prepared(chain, name, source, annotations=str(chain / name))
        wrote(chain, f"of-{name}", "text", data=name, model=f"hf:{chain / 'bart'}")
        document = scored(chain, bench, predictions=f"of-{name}")
        by_file = scored(chain, bench, predictions=f"of-{name}", bench__annotations=str(chain / name / "test.jsonl"))
        assert document["counts"] == by_file["counts"] and document["metrics"] == by_file["metrics"]
        lines = chain / f"{name}.hypo"
        lines.write_text("".join(f"it is square number {n}\n" for n in range(3)))
        assert scored(chain, bench, predictions=str(lines), data=name)["metrics"][metric] == pytest.approx(100)
    with pytest.raises(UserError, match="table 'texts' has no column 'summary'"):
        scored(chain, "xsum", predictions=str(lines), data="sentences")


def test_rejected_texts_are_no_items(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "test.source").write_text("one\ntwo\n")
    (tmp_path / "test.target").write_text("1\n\n")
    prepared(chain, "gaps", "xsum", annotations=str(tmp_path), skip_bad=True)
    with pytest.raises(UserError, match=r"1 rows of the data were rejected .*the summary is empty"):
        wrote(chain, "of-gaps", "text", data="gaps", model=f"hf:{chain / 'bart'}")
    found = wrote(chain, "of-gaps", "text", data="gaps", model=f"hf:{chain / 'bart'}", allow_rejected=True)
    assert (found["rows"], found["skipped"]) == (1, 1)
    assert scored(chain, "xsum", predictions="of-gaps")["counts"]["skipped"] == 1
    kept = datasets.load_from_disk(chain / "work/data/gaps/texts")["test"]
    assert kept["text"][:] == ["one", "two"]


def test_from_the_command_line(chain: Path, mmkd: Any) -> None:
    work = ("--root", chain / "work")
    (chain / "cli").mkdir()
    (chain / "cli/test.jsonl").write_text(json.dumps({"article": "A square.", "highlights": "square"}))
    mmkd("prepare-data", "--source", "cnn-dailymail", "--annotations", chain / "cli", "--name", "news", *work)
    mmkd("generate", "--task", "text", "--model", f"hf:{chain / 'bart'}", "--data", "news", "--name", "told", *work)
    document = json.loads(mmkd("evaluate", "--bench", "cnn-dailymail", "--predictions", "told", "--json", *work).stdout)
    assert document["counts"]["items"] == 1 and document["split"] == "test"
    assert "--data news" in mmkd("show", "told", "--chain", *work).stdout


def test_a_folder_without_a_decoders_start_is_refused_before_the_plan(chain: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(chain / "bart", tmp_path / "bart"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": None}))
    with pytest.raises(UserError, match="has no decoder_start_token_id, which its decoder starts from: add"):
        wrote(chain, "never", "text", data="squares", model=f"hf:{folder}")
    assert not (chain / "work/results/never").exists()
