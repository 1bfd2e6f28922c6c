"""GQA, SNLI-VE, NLVR2, NLVR and DAQUAR on small official files, and the real ones that are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.benches import judged
from mmkd_cli.benches.runner import open_bench
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.prepared import open_data
from mmkd_cli.metrics.wups import wups
from mmkd_cli.reports.page import render
from mmkd_cli.stages import prepare_data
from tests.benches.text_bench_files import daquar, gqa, nlvr, nlvr2, snli_ve, write
from tests.data.made_pictures import jpeg
from tests.stages.small_chain import config_of, context


def run(bench: str, keys: dict[str, Any], predictions: Path, **more: Any) -> Scores:
    return open_bench({"name": bench, "bootstrap": 50, **keys, **more}).run(BenchInput(predictions=predictions))


@pytest.fixture
def no_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "wordnet_similarity", lambda: None)


def test_gqa_is_exact_and_of_balanced_questions(tmp_path: Path) -> None:
    found = run("gqa", *gqa(tmp_path))
    assert found.metrics == {"accuracy": pytest.approx(100 * 2 / 6)}  # "Yes" is not "yes"
    assert found.by["answer: binary"] == {"accuracy": 0, "items": 2} and found.by["structural: query"]["items"] == 4
    assert found.by["always the commonest"]["accuracy"] == pytest.approx(100 * 2 / 6)
    assert found.counts == {"items": 6, "skipped": 1, "images": 3}
    assert "is &lt;it&gt; 5?" in render("gqa", found.page)


def test_snli_ve_leaves_out_pairs_without_a_label(tmp_path: Path) -> None:
    found = run("snli-ve", *snli_ve(tmp_path))
    assert found.metrics == {"accuracy": 50.0} and found.by["label: neutral"] == {"accuracy": 0, "items": 2}
    assert found.counts == {"items": 6, "skipped": 1, "images": 1} and found.official is False


def test_the_sample_of_snli_ve(real_data: Path, tmp_path: Path) -> None:
    annotations = real_data / "snli_ve_sample/sample_data.jsonl"
    pairs = [json.loads(line)["pairID"] for line in annotations.read_text().splitlines()]
    write(tmp_path / "said.json", [{"pairID": one, "prediction": "entailment"} for one in pairs])
    found = run("snli-ve", {"annotations": str(annotations), "images": str(annotations.parent)}, tmp_path / "said.json")
    assert found.counts["items"] == 5 and {line["images"][0] for line in found.items} >= {"555378351", "3253523210"}
    assert render("snli-ve", found.page).count("data:image/jpeg") == 5


def test_nlvr2_is_consistent_where_a_sentence_is_always_right(tmp_path: Path) -> None:
    found = run("nlvr2", *nlvr2(tmp_path))
    assert found.metrics == {"accuracy": pytest.approx(100 * 5 / 6), "consistency": 50.0}
    assert "consistency" not in found.intervals
    assert next(iter(found.items))["images"] == ["dev-0-0-img0", "dev-0-0-img1"]


def slow_consistency(rows: list[dict[str, Any]], wrong: set[str]) -> float:
    """Percent of the identifiers without their pair's number of which nothing is wrong."""
    sentences = {("-".join(p for k, p in enumerate(row["identifier"].split("-")) if k != 2)) for row in rows}
    missed = {"-".join(p for k, p in enumerate(one.split("-")) if k != 2) for one in wrong}
    return 100 * len(sentences - missed) / len(sentences)


def test_the_real_items_of_nlvr2(real_data: Path, tmp_path: Path) -> None:
    annotations = real_data / "nlvr2/balanced_dev.json"
    rows = [json.loads(line) for line in annotations.read_text().splitlines()]
    wrong = {row["identifier"] for row in rows[::7]}
    said = [f"{r['identifier']},{(r['label'] == 'True') != (r['identifier'] in wrong)}" for r in rows]
    write(tmp_path / "said.csv", "\n".join(said[::-1]))
    found = run("nlvr2", {"annotations": str(annotations)}, tmp_path / "said.csv")
    assert found.counts["items"] == 2300 and found.by["always the commonest"]["accuracy"] == 50
    assert found.metrics["accuracy"] == pytest.approx(100 * (1 - len(wrong) / 2300))
    assert found.metrics["consistency"] == pytest.approx(slow_consistency(rows, wrong))


def test_the_real_items_of_nlvr(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "nlvr1/dev"
    rows = json.loads((folder / "dev.json").read_text())
    write(tmp_path / "said.csv", "\n".join(f"{row['identifier']},true" for row in rows))
    found = run("nlvr", {"annotations": str(folder / "dev.json")}, tmp_path / "said.csv")
    assert found.counts["items"] == 989 and round(found.metrics["accuracy"], 1) == 55.3
    assert run("nlvr", *nlvr(tmp_path)).metrics == {"accuracy": 100, "consistency": 100}


def test_daquar_compares_sets_of_answers(tmp_path: Path, no_wordnet: None, capsys: Any) -> None:
    keys, predictions = daquar(tmp_path)
    found = run("daquar", keys, predictions)
    assert found.metrics == {"accuracy": pytest.approx(100 * 4 / 6)} and found.counts["skipped"] == 1
    assert "wups is left out" in capsys.readouterr().err
    rows = [{"question_id": n, "answer": "red,white"} for n in range(6)]
    assert run("daquar", keys, Path(write(tmp_path / "said.json", rows))).metrics["accuracy"] == pytest.approx(100 / 6)
    write(predictions, "table\nchair\n")
    with pytest.raises(UserError, match="2 lines, 6 questions"):
        run("daquar", keys, predictions)


def test_wups_by_a_stand_in_for_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that begin alike are near: a stand-in, since WordNet is a download."""
    monkeypatch.setattr(judged, "wordnet_similarity", lambda: lambda a, b: 0.95 if a[0] == b[0] else 0.4)
    keys, predictions = daquar(tmp_path)
    write(predictions, "\n".join(["tub", "chair", "3", "red", "cup", "cat, sofa"]))
    found = run("daquar", keys, predictions)
    near = [0.95, 1, 0.04, 0.04, 1, 0.04]
    assert found.metrics["wups@0.9"] == pytest.approx(100 * sum(near) / 6)
    assert found.metrics["wups@0.0"] == pytest.approx(100 * (0.95 + 1 + 0.4 + 0.4 + 1 + 0.4) / 6)
    assert next(iter(found.items))["scores"]["wups@0.9"] == pytest.approx(0.95)


def test_wups_of_sets_is_the_smaller_direction() -> None:
    similarity = {("a", "c"): 0.5, ("b", "c"): 0.95}.get
    assert wups("a, b", "c", 0.0, lambda a, b: similarity((a, b), 0.0)) == pytest.approx(0.5 * 0.95)
    assert wups("a, b", "c", 0.9, lambda a, b: similarity((a, b), 0.0)) == pytest.approx(0.05 * 0.95)
    assert wups("c", "a, c", 0.0, lambda a, b: 0.0) == 0.0 and wups("", "a", 0.0, lambda a, b: 1.0) == 0.0


def test_the_real_questions_of_daquar(real_data: Path, tmp_path: Path, no_wordnet: None) -> None:
    folder = real_data / "daquar"
    keys = {"annotations": str(folder / "all_qa_pairs.txt"), "photos": str(folder / "test_images_list.txt")}
    bench = open_bench({"name": "daquar", **keys})
    items, _ = bench.read(Path(keys["annotations"]))
    assert len(items) == 5673
    write(tmp_path / "said.txt", "\n".join(["2"] * len(items)))
    assert run("daquar", keys, tmp_path / "said.txt").counts == {
        "items": 5673,
        "skipped": 6795,
        "images": 653,
    }  # one photo of 654 has no question


@pytest.mark.parametrize("maker", [gqa, snli_ve, nlvr2, daquar])
def test_prepared_data_give_the_scores_of_the_files(maker: Any, tmp_path: Path, no_wordnet: None) -> None:
    keys, predictions = maker(tmp_path)
    name = maker.__name__.replace("_", "-")
    items = list(run(name, keys, predictions).items)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(sorted({image for line in items for image in line["images"]})):
        (folder / f"{image}.png").write_bytes(jpeg(number))
    named = {"source__split": "test"} if name == "daquar" else {}
    config = config_of(prepare_data, source__name=name, source__images=str(folder), skip_bad=True,
                       source__annotations=keys["annotations"], **named)  # fmt: skip
    prepare_data.run(config, context(tmp_path / "work", "data"))
    data = open_data(tmp_path / "work", "data")
    split = "test" if name == "daquar" else "val"
    said = [{"question_id": line["id"], "answer": line["answer"]} for line in items]
    if name == "daquar":  # the seventh question is of a photo that is on no list
        said.append({"question_id": "6", "answer": "door"})
    write(tmp_path / "answers.json", said)
    given = BenchInput(predictions=tmp_path / "answers.json", data=data, split=split)
    found, true = open_bench({"name": name, "bootstrap": 0}).run(given), run(name, keys, predictions)
    if name == "daquar":
        assert found.metrics["accuracy"] == pytest.approx(100 * 4 / 6) and found.counts["items"] == 6
        return
    assert found.metrics == true.metrics and found.counts["items"] == 6
    kinds = {kind for kind in true.by if not kind.startswith("semantic")}
    assert {kind: found.by[kind] for kind in kinds} == {kind: true.by[kind] for kind in kinds}


@pytest.mark.parametrize(
    ("maker", "change", "said"),
    [
        (gqa, lambda text: text.replace('"isBalanced": true', '"isBalanced": 1', 1), "field 'isBalanced'"),
        (snli_ve, lambda text: text.replace("neutral", "maybe", 1), "'maybe' is none of contradiction"),
        (nlvr2, lambda text: text.replace("dev-0-1-0", "dev-0-1", 1), "is not SPLIT-SET-PAIR-SENTENCE"),
        (nlvr, lambda text: text.replace('"true"', '"perhaps"', 1), "'perhaps' is neither True nor False"),
        (daquar, lambda text: text + "and the image9 ?", "a question and an answer in turn"),
        (daquar, lambda text: text.replace("image3", "photo", 1), "line 7: the question names no photo"),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(maker: Any, change: Any, said: str, tmp_path: Path) -> None:
    keys, predictions = maker(tmp_path)
    annotations = Path(keys["annotations"])
    write(annotations, change(annotations.read_text()))
    with pytest.raises(UserError, match=said):
        run(maker.__name__.replace("_", "-"), keys, predictions)


@pytest.mark.parametrize("maker", [gqa, snli_ve, nlvr2])
def test_missing_doubled_and_unknown_answers_are_counted(maker: Any, tmp_path: Path) -> None:
    keys, predictions = maker(tmp_path)
    text = predictions.read_text()
    rows = json.loads(text) if text.startswith("[") else text.splitlines()
    changed = [*rows[1:-1], rows[1]]
    write(predictions, changed if text.startswith("[") else "\n".join(changed))
    with pytest.raises(UserError, match=r"of 6 are missing .*; 1 stand there more than once"):
        run(maker.__name__.replace("_", "-"), keys, predictions)
