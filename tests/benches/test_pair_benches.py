"""Winoground, SugarCrepe and ARO from ready embeddings and from a model: rules, ids, groups, lines, pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmkd_cli.benches import aro, sugarcrepe_files
from mmkd_cli.benches.aro_orders import Tools
from mmkd_cli.benches.pair_scores import cosines
from mmkd_cli.benches.runner import file_hashes, open_bench
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.reports.blocks import Paragraph, Query, Table
from mmkd_cli.reports.page import render
from tests.benches.bench_files import aro_folder, sugarcrepe_folder, winoground_folder
from tests.benches.small_data import ChosenModel

AXES = np.eye(4, dtype=np.float32)


def scored(bench: dict[str, Any], **given: Any) -> Scores:
    found = open_bench(bench).run(BenchInput(**given))
    found.items = list(found.items)
    json.dumps([found.metrics, found.by, found.items], allow_nan=False)
    assert "<h1>" in render("page", found.page)
    return found


def tied(n: int, k: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [n, d] and texts [n, k, d] of which the last equals the first: a tie for the first place everywhere."""
    rng = np.random.default_rng(2)
    image = rng.standard_normal((n, d)).astype(np.float32)
    text = (0.05 * rng.standard_normal((n, k, d)) - image[:, None]).astype(np.float32)
    text[:, 0] = image + 0.1 * rng.standard_normal((n, d))
    text[:, -1] = text[:, 0]
    return image, text


def test_equal_embeddings_score_equal_wherever_they_stand() -> None:
    image, text = (torch.from_numpy(a) for a in tied(37, 5, 77))
    pairs = np.stack([np.broadcast_to(np.arange(37)[:, None], (37, 5)), np.arange(185).reshape(37, 5)], axis=2)
    found = cosines(image, text.flatten(0, 1), pairs)
    assert (found[:, 0] == found[:, 4]).all() and (found[:, 0] > found[:, 1:4].max(axis=1)).all()
    expected = (image[:, None].double() * text.double()).sum(-1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# ------------------------------------------------------------------------------------------------ Winoground
def test_winoground_by_hand() -> None:
    """Item 0 is right; in 1 both captions are one vector (a tie of texts); 2 has its pictures changed."""
    image = np.stack([AXES[0], AXES[1], AXES[0], AXES[1], AXES[1], AXES[0]])
    text = np.stack([AXES[0], AXES[1], AXES[2], AXES[2], AXES[0], AXES[1]])
    found = scored({"name": "winoground"}, embeddings={"image": image, "text": text})
    assert found.metrics == {
        "text": pytest.approx(100 / 3),
        "image": pytest.approx(100 / 3),
        "group": pytest.approx(100 / 3),
    }
    assert [item["right"]["group"] for item in found.items] == [True, False, False]
    assert found.items[0]["scores"] == [1.0, 0.0, 0.0, 1.0] and found.items[2]["scores"] == [0.0, 1.0, 1.0, 0.0]
    assert found.by == {"chance": {"text": 25.0, "image": 25.0, "group": pytest.approx(16.6667, abs=1e-3)}}
    assert found.official is False and found.quoted == []  # three items are not the published 400
    assert found.intervals.keys() == found.metrics.keys()


def test_winoground_s_official_tags(real_data: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((800, 16)).astype(np.float32) for name in ("image", "text")}
    plain = scored({"name": "winoground"}, embeddings=arrays)
    file = real_data / "winoground" / "data.json"
    found = scored({"name": "winoground", "annotations": str(file)}, embeddings=arrays)
    assert found.metrics == plain.metrics and found.official and len(found.quoted) == 10
    rows = json.loads(file.read_text())
    unit = {name: a.reshape(400, 2, 16) / np.linalg.norm(a.reshape(400, 2, 16), axis=-1, keepdims=True)
            for name, a in arrays.items()}  # fmt: skip
    right = {"text": [], "image": []}
    for i, t in zip(unit["image"], unit["text"], strict=True):
        s = t @ i.T  # [caption, picture]
        right["text"].append(s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1])
        right["image"].append(s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0])
    right["group"] = [a and b for a, b in zip(right["text"], right["image"], strict=True)]
    assert found.metrics == pytest.approx({name: 100 * np.mean(hits) for name, hits in right.items()})
    columns = ["chance", "1 main predicate", "Relation", "Object", "2 main predicates", "Both"]
    assert list(found.by)[:6] == columns and len(found.by) == 6 + 70 + 4  # tags, secondary tags
    for tag in ("Relation", "Object", "Both"):
        own = [place for place, row in enumerate(rows) if row["collapsed_tag"] == tag]
        expected = {n: 100 * np.mean([h[i] for i in own]) for n, h in right.items()}
        assert found.by[tag] == pytest.approx({**expected, "items": len(own)})
    assert found.by["Both"] != found.by["Relation"] and found.counts == {"items": 400, "skipped": 0}
    symbolic = [place for place, row in enumerate(rows) if "Symbolic" in row["secondary_tag"]]
    assert found.by["tag: Symbolic"]["text"] == pytest.approx(100 * np.mean([right["text"][i] for i in symbolic]))
    table = next(block for block in found.page if isinstance(block, Table))
    fine = {row[0]: row[1] for row in table.rows}
    assert fine["Relation"] == 233 and fine["Noun"] == 107 and fine["Symbolic"] == 41  # alone, and with another tag
    assert found.items[5]["id"] == "5" and found.items[5]["collapsed_tag"] == rows[5]["collapsed_tag"]


def test_winoground_by_a_model(tmp_path: Path) -> None:
    """ChosenModel embeds picture and caption of one number alike: every item is right."""
    config = {"name": "winoground", "annotations": str(winoground_folder(tmp_path))}
    found = scored(config, model=ChosenModel(), batch_size=4)
    assert found.metrics == {"text": 100.0, "image": 100.0, "group": 100.0}
    queries = [block for block in found.page if isinstance(block, Query)]
    assert len(queries) == 6 and all(card.picture for query in queries for card in query.found)
    assert [card.right for card in queries[0].found] == [True, False]  # best first, the own one marked
    hashes = file_hashes(open_bench(config))
    assert set(hashes) == {"annotations", "images"}
    quick = open_bench(config).run(BenchInput(model=ChosenModel(), metrics_only=True))
    assert quick.metrics == found.metrics and not quick.page and not quick.intervals


def test_winoground_asks_for_its_files() -> None:
    with pytest.raises(UserError, match=r"winoground needs its own files: Winoground is gated: .*--annotations"):
        scored({"name": "winoground"}, model=ChosenModel())
    with pytest.raises(UserError, match="give --model, or --embeddings"):
        scored({"name": "winoground"})


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"image": np.ones((6, 4)), "text": np.ones((4, 4))}, "image has 6 rows, text 4"),
        ({"image": np.ones((3, 4)), "text": np.ones((3, 4))}, "image has 3 rows"),
        ({"image": np.ones((4, 4)), "text": np.ones((4, 5))}, "pictures are 4 wide, texts 5"),
        ({"image": np.ones((4, 4))}, "have no 'text'"),
        ({"image": np.ones((4, 4)), "text": np.full((4, 4), np.nan)}, "NaN"),
    ],
)
def test_winoground_s_wrong_embeddings(arrays: dict[str, np.ndarray], what: str) -> None:
    with pytest.raises(UserError, match=what):
        scored({"name": "winoground"}, embeddings=arrays)


def test_embeddings_must_fit_the_annotations(tmp_path: Path) -> None:
    config = {"name": "winoground", "annotations": str(winoground_folder(tmp_path))}
    with pytest.raises(UserError, match=r"embeddings hold \[2, 4\] items and pairs .* annotations \[3, 4\]"):
        scored(config, embeddings={"image": np.ones((4, 3)), "text": np.ones((4, 3))})


# ------------------------------------------------------------------------------------------------ SugarCrepe
def test_sugarcrepe_by_hand() -> None:
    """Right, wrong, and a tie, which is wrong; six of the files are missing."""
    image = np.stack([AXES[0], AXES[0], AXES[0]])
    text = np.stack([np.stack([AXES[0], AXES[1]]), np.stack([AXES[1], AXES[0]]), np.stack([AXES[0], AXES[0]])])
    found = scored({"name": "sugarcrepe"}, embeddings={"swap_obj.image": image, "swap_obj.text": text})
    assert found.metrics == {"swap_obj": pytest.approx(100 / 3)}  # no macro of fewer than seven
    assert [item["right"] for item in found.items] == [{"swap_obj": True}, {"swap_obj": False}, {"swap_obj": False}]
    assert found.by == {"mean by kind": {"swap": pytest.approx(100 / 3)}, "chance": {"swap_obj": 50.0}}


def test_all_ties_are_wrong_in_sugarcrepe_and_right_in_orders() -> None:
    image, text = tied(40, 2, 33)
    assert scored({"name": "sugarcrepe"}, embeddings={"add_att.image": image, "add_att.text": text}).metrics == {
        "add_att": 0.0
    }
    image, text = tied(40, 5, 33)
    found = scored({"name": "aro"}, embeddings={"coco_order.image": image, "coco_order.text": text})
    assert found.metrics == {"coco_order": 100.0} and found.by == {"chance": {"coco_order": 20.0}}


def test_sugarcrepe_s_official_files(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    arrays, expected = {}, {}
    for name, n in sugarcrepe_files.ITEMS.items():
        image, text = rng.standard_normal((n, 8)), rng.standard_normal((n, 2, 8)) + 0.2
        arrays |= {f"{name}.image": image, f"{name}.text": text}
        cosine = [
            [float(i @ t / np.linalg.norm(i) / np.linalg.norm(t)) for t in two]
            for i, two in zip(image, text, strict=True)
        ]
        expected[name] = 100 * sum(a > b for a, b in cosine) / n
    expected["macro"] = sum(expected.values()) / 7
    found = scored({"name": "sugarcrepe", "annotations": str(real_data / "sugarcrepe")}, embeddings=arrays)
    assert found.metrics == pytest.approx(expected, abs=1e-9)
    assert found.counts["items"] == 7511 and found.counts["swap_obj"] == 245 and found.official
    assert found.items[-1]["id"] == "swap_obj/245" and found.items[-2]["id"] == "swap_obj/244"
    document = json.loads((real_data / "sugarcrepe" / "swap_obj.json").read_text())
    assert [item["id"] for item in found.items[-245:]] == [f"swap_obj/{key}" for key in document]
    assert found.items[-1]["image"] == document["245"]["filename"] and found.items[-1]["group"] == {"macro": "swap_obj"}
    kinds = found.by["mean by kind"]
    assert kinds["replace"] == pytest.approx(np.mean([expected[f"replace_{k}"] for k in ("att", "obj", "rel")]))
    for name, (low, high) in found.intervals.items():
        assert low < found.metrics[name] < high, name
    assert (
        found.intervals["macro"][1] - found.intervals["macro"][0]
        < found.intervals["swap_obj"][1] - found.intervals["swap_obj"][0]
    )
    assert capsys.readouterr().err == ""


def test_sugarcrepe_by_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Picture i is caption i's: right everywhere, each picture and caption embedded once."""
    folder = sugarcrepe_folder(tmp_path)
    (folder / "add_att.json").unlink()
    model = ChosenModel()
    found = scored({"name": "sugarcrepe", "annotations": str(folder)}, model=model, batch_size=64)
    assert set(found.metrics) == set(sugarcrepe_files.ITEMS) - {"add_att"} and set(found.metrics.values()) == {100.0}
    assert len(model.asked) == 1  # 3 pictures, one batch
    assert "add_att is left out: its file is not there" in capsys.readouterr().err
    assert any(isinstance(block, Paragraph) and "add_att" in block.text for block in found.page)
    queries = [block for block in found.page if isinstance(block, Query)]
    assert queries and all(query.asked.picture and query.found[0].right for query in queries)


# ------------------------------------------------------------------------------------------------ ARO
@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word is a noun, which spaCy says elsewhere."""
    tools = Tools(lambda text: [(word, "NN") for word in text.split()], str.split)
    monkeypatch.setattr(aro, "open_tools", lambda: tools)


def test_aro_by_a_model(tmp_path: Path, tagged: None) -> None:
    """The picture's part inside the box is number 2: "2" beats "3"."""
    found = scored({"name": "aro", "annotations": str(aro_folder(tmp_path))}, model=ChosenModel())
    # Of the relations `on` is 2 of 2, `under` 0 of 1, `near` is symmetric; of attributes old_red is 20 of 25.
    assert found.metrics == {"vg_relation": 50.0, "vg_attribution": 80.0, "coco_order": 100.0}
    assert found.by["vg_relation: on"] == {"accuracy": 100.0, "items": 2}
    assert found.by["vg_relation: under"] == {"accuracy": 0.0, "items": 1}
    assert not any("near" in name or "new_blue" in name for name in found.by)
    assert found.counts == {"items": 34, "skipped": 0, "vg_relation": 5, "vg_attribution": 27, "coco_order": 2}
    near = [item for item in found.items if item["id"] in ("vg_relation/3", "vg_relation/4")]
    assert [item["right"] for item in near] == [{}, {}] and len(near[0]["scores"]) == 2  # scored, and counted nowhere
    assert found.items[0]["group"] == {"vg_relation": "on"}


def test_what_aro_lacks_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> Tools:
        raise aro.Absent("spaCy's English model is not here: python -m spacy download en_core_web_sm")

    monkeypatch.setattr(aro, "open_tools", absent)
    config = {"name": "aro", "annotations": str(aro_folder(tmp_path))}
    found = scored(config, model=ChosenModel())
    assert set(found.metrics) == {"vg_relation", "vg_attribution"}
    said = capsys.readouterr().err
    assert "coco_order is left out: spaCy's English model is not here" in said
    assert "flickr30k_order is left out: its file is not there" in said
    assert set(file_hashes(open_bench(config))) == {"vg_relation", "vg_attribution", "images"}
    with pytest.raises(UserError, match=r"none of ARO's tasks can be scored \(coco_order: spaCy's"):
        scored({**config, "tasks": ["coco_order"]}, model=ChosenModel())


def test_aro_s_groups_need_annotations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"vg_relation.image": rng.standard_normal((5, 4)), "vg_relation.text": rng.standard_normal((5, 2, 4))}
    with pytest.raises(UserError, match="vg_relation is a mean over groups that its file names: give --annotations"):
        scored({"name": "aro"}, embeddings=arrays)
    config = {"name": "aro", "annotations": str(aro_folder(tmp_path)), "tasks": ["vg_relation"]}
    found = scored(config, embeddings=arrays)
    image, text = arrays["vg_relation.image"], arrays["vg_relation.text"]
    right = [i @ a / np.linalg.norm(a) > i @ b / np.linalg.norm(b) for i, (a, b) in zip(image, text, strict=True)]
    assert found.metrics == {"vg_relation": pytest.approx(100 * (np.mean(right[:2]) + right[2]) / 2)}


# ------------------------------------------------------------------------------------------------ identity
def test_the_request_knows_the_files_content_and_not_their_place(tmp_path: Path) -> None:
    first, second = sugarcrepe_folder(tmp_path / "a"), sugarcrepe_folder(tmp_path / "b")
    hashes = [file_hashes(open_bench({"name": "sugarcrepe", "annotations": str(f)})) for f in (first, second)]
    assert hashes[0] == hashes[1] and set(hashes[0]) == {*sugarcrepe_files.ITEMS, "images"}
    (second / "images" / "extra.png").write_bytes(b"another picture")
    (second / "add_att.json").write_text("{}")
    again = file_hashes(open_bench({"name": "sugarcrepe", "annotations": str(second)}))
    assert {key for key in again if again[key] != hashes[0][key]} == {"images", "add_att"}
