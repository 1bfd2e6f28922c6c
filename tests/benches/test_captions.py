"""The caption benches on small official files: scores, domains, refusals, the page. (tests/metrics has the scorers.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_cli.benches.caption_files import read_captions
from mmkd_cli.benches.runner import open_bench
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics import captions as caption_metrics
from mmkd_cli.metrics.captions import caption_scores
from mmkd_cli.reports.page import render
from tests.benches.text_bench_files import ITEMS, coco_caption, draw_pictures, flickr8k_caption, write


@pytest.fixture(autouse=True)
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes half a minute to start; tests/metrics/test_captions.py runs it."""
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)


def run(bench: str, keys: dict[str, Any], predictions: Path, split: str | None = None, **more: Any) -> Scores:
    return open_bench({"name": bench, "bootstrap": 50, **keys, **more}).run(
        BenchInput(predictions=predictions, split=split)
    )


def test_scores_are_those_of_the_captions_in_the_files_order(tmp_path: Path, capsys: Any) -> None:
    keys, predictions = coco_caption(tmp_path)
    found = run("coco-caption", keys, predictions)
    items = read_captions(Path(keys["annotations"]), "val")
    said = {row["image_id"]: row["caption"] for row in json.loads(predictions.read_text())}
    expected = caption_scores(items.references, [said[int(one)] for one in items.ids])
    assert found.metrics == {name: score.value for name, score in expected.scores.items()}
    assert list(found.metrics) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
    assert found.counts == {"items": ITEMS, "skipped": 0, "references": 4 * ITEMS}
    assert all(low <= found.metrics[name] <= high for name, (low, high) in found.intervals.items())
    lines = list(found.items)
    assert [line["id"] for line in lines] == ["10", "11", "12", "13", "14", "15"]
    assert lines[2]["caption"] == said[12] and lines[2]["scores"]["CIDEr"] == expected.scores["CIDEr"].items[2]
    err = capsys.readouterr().err
    assert "METEOR is left out: java is not there" in err and "SPICE is left out: java is not there" in err


def test_nocaps_by_domain_with_the_domains_own_frequencies_or_all(tmp_path: Path) -> None:
    keys, predictions = coco_caption(tmp_path)
    found = run("nocaps", keys, predictions)
    assert list(found.by) == ["in-domain", "near-domain", "out-domain"]
    assert [by["items"] for by in found.by.values()] == [2, 3, 1]
    document = json.loads(Path(keys["annotations"]).read_text())
    near = [image["id"] for image in document["images"] if image["domain"] == "near-domain"]
    part = {
        "images": [image for image in document["images"] if image["id"] in near],
        "annotations": [row for row in document["annotations"] if row["image_id"] in near],
    }
    rows = [row for row in json.loads(predictions.read_text()) if row["image_id"] in near]
    write(tmp_path / "near.json", rows)
    alone = run("coco-caption", {"annotations": write(tmp_path / "part.json", part)}, tmp_path / "near.json")
    assert found.by["near-domain"] == pytest.approx({**alone.metrics, "items": 3})
    shared = run("nocaps", keys, predictions, idf="all")
    cider = [line["scores"]["CIDEr"] for line in shared.items]
    assert shared.by["near-domain"]["CIDEr"] == pytest.approx(np.mean(cider[2:5]))
    assert shared.by["near-domain"]["CIDEr"] != pytest.approx(alone.metrics["CIDEr"])
    assert shared.by["near-domain"]["Bleu_4"] == pytest.approx(alone.metrics["Bleu_4"])


def test_karpathys_file_is_scored_by_split(tmp_path: Path) -> None:
    keys, predictions = flickr8k_caption(tmp_path)
    found = run("flickr8k-caption", keys, predictions)
    assert found.counts == {"items": ITEMS, "skipped": 0, "references": 5 * ITEMS}
    with pytest.raises(UserError, match=r"2 of 2 are missing .*6 are not in the annotations"):
        run("flickr8k-caption", keys, predictions, "train")
    with pytest.raises(UserError, match=r"--split 'tset' is no split of file .*did you mean 'test'"):
        run("flickr8k-caption", keys, predictions, "tset")


def test_the_page_shows_pictures_with_captions_and_escapes_them(tmp_path: Path) -> None:
    keys, predictions = coco_caption(tmp_path)
    rows = json.loads(predictions.read_text())
    rows[0]["caption"] = "<script>alert(1)</script>"
    rows[1]["caption"] = ""
    write(predictions, rows)
    images = draw_pictures(tmp_path / "pictures", [f"{n:04d}.png" for n in range(ITEMS)])
    page = render("t", run("coco-caption", keys, predictions, images=images).page)
    assert page.count("data:image/jpeg") == ITEMS and "<script>alert" not in page and "(nothing)" in page
    assert render("t", run("coco-caption", keys, predictions, shown=2).page).count("reference</") == 2 * 4
    assert "data:image" not in render("t", run("coco-caption", keys, predictions).page)


def test_pictures_that_are_not_there_are_said_before_any_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, predictions = coco_caption(tmp_path)
    monkeypatch.setattr("mmkd_cli.benches.captions.caption_scores", lambda *_: pytest.fail("scored"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--images .*empty: picture 000\d.png is not there"):
        run("coco-caption", keys, predictions, images=str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"--images .*gone is no folder"):
        run("coco-caption", keys, predictions, images=str(tmp_path / "gone"))


def changed(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d["annotations"].clear(), "image '10' has no caption to be compared with"),
        (lambda d: d["annotations"][0].update(image_id=99), r"annotations\[0\], field 'image_id': no image .* id 99"),
        (lambda d: d["annotations"][3].update(caption=5), r"annotations\[3\], field 'caption': a text is needed"),
        (lambda d: d["images"].append(d["images"][0]), "two images have the id '10'"),
        (lambda d: d["images"][1].update(file_name="../x.jpg"), r"images\[1\]: path '../x.jpg' leaves its folder"),
        (lambda d: d["images"][1].pop("id"), r"images\[1\]: field 'id' is missing"),
        (lambda d: (d["images"].clear(), d["annotations"].clear()), "there are no images"),
        (lambda d: d.pop("images"), "field 'images' is missing"),
    ],
)
def test_annotations_that_are_not_of_the_layout_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    keys, _ = coco_caption(tmp_path)
    path = Path(keys["annotations"])
    write(path, changed(json.loads(path.read_text()), change))
    with pytest.raises(UserError, match=complaint):
        read_captions(path, "val")


def test_what_is_not_given_is_asked_for(tmp_path: Path) -> None:
    keys, predictions = coco_caption(tmp_path)
    with pytest.raises(UserError, match="needs reference captions: give --annotations"):
        run("coco-caption", {}, predictions)
    path = Path(keys["annotations"])
    write(path, changed(json.loads(path.read_text()), lambda d: d["images"][0].pop("domain")))
    with pytest.raises(UserError, match="domain '' of an image is none of in-domain, near-domain, out-domain"):
        run("nocaps", keys, predictions)
