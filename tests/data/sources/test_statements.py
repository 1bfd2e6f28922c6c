"""GQA, SNLI-VE, NLVR, NLVR2 and DAQUAR: official files to pictures, each once, and questions with one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.core.errors import UserError
from tests.benches.text_bench_files import daquar, gqa, nlvr, nlvr2, snli_ve
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source


def pictures(folder: Path, *names: str) -> str:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number))
    return str(folder)


def test_gqa_is_its_balanced_questions(tmp_path: Path) -> None:
    keys, _ = gqa(tmp_path)
    images = pictures(tmp_path / "images", "n0.jpg", "n1.jpg", "n2.jpg")
    made = source("gqa", images=images, **keys)
    found = rows(made, "questions", "val")
    assert [row["question_id"] for row in found] == ["00", "01", "02", "03", "04", "05"]
    assert found[2] == {
        "question_id": "02", "question": "is <it> 2?", "image_row": 1, "question_type": "query", "answer_type": "open",
        "answer": "red", "answers": ["red"],
    }  # fmt: skip
    assert [row["image_id"] for row in rows(made, "images", "val")] == ["n0", "n1", "n2"] and not [*made.missing()]


def test_snli_ve_leaves_out_what_has_no_label(tmp_path: Path) -> None:
    keys, _ = snli_ve(tmp_path)
    made = source("snli-ve", images=pictures(tmp_path / "images", "12.jpg"), **keys)
    found = rows(made, "questions", "val")  # the file's name says dev
    assert len(found) == 6 and {row["image_row"] for row in found} == {0}
    assert found[0]["answer"] == "entailment" and found[0]["question"] == "A <b> 0."


def test_nlvr2_is_about_two_pictures(tmp_path: Path) -> None:
    keys, _ = nlvr2(tmp_path)
    names = [f"dev/dev-{s}-{pair}-img{k}.png" for s in range(2) for pair in range(3) for k in range(2)]
    made = source("nlvr2", images=pictures(tmp_path / "images", *names[:-1]), **keys)
    found = rows(made, "questions", "val")
    assert [(row["image_row"], row["second_image_row"]) for row in found] == [(2 * n, 2 * n + 1) for n in range(6)]
    assert found[0]["answer"] == "false" and found[0]["question_type"] == "dev-0-0"
    assert [Path(path).name for path in made.missing()] == ["dev-1-2-img1.png"]


def test_nlvr_finds_its_first_drawing(tmp_path: Path) -> None:
    keys, _ = nlvr(tmp_path)
    names = [f"dev-{10 + s}-{k}-0.png" for s in range(2) for k in range(3)]
    made = source("nlvr", images=pictures(tmp_path / "images", *names), **keys)
    assert not [*made.missing()] and len(rows(made, "images", "val")) == 6


def test_nlvrs_drawings_are_called_as_their_file_whatever_its_split_is_for(tmp_path: Path) -> None:
    keys, _ = nlvr(tmp_path)  # dev.json
    names = [f"dev-{10 + s}-{k}-0.png" for s in range(2) for k in range(3)]
    made = source("nlvr", images=pictures(tmp_path / "images", *names), split="train", **keys)
    assert not [*made.missing()] and len(rows(made, "images", "train")) == 6


def test_the_real_nlvr(real_data: Path) -> None:
    folder = real_data / "nlvr1/dev"
    made = source("nlvr", images=str(folder / "images"), annotations=str(folder / "dev.json"))
    assert not [*made.missing()] and len(rows(made, "questions", "val")) == 989


def test_daquars_lists_are_its_splits(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "daquar"
    made = source("daquar", images=str(folder / "images"), annotations=str(folder / "all_qa_pairs.txt"))
    train, test = (rows(made, "questions", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (6795, 5673) and not [*made.missing()]
    assert test[0]["answer"] == "garbage_bin" or "," in "".join(row["answer"] for row in test)
    keys, _ = daquar(tmp_path)
    alone = source("daquar", images=pictures(tmp_path / "images", "image0.jpg"), annotations=keys["annotations"],
                   split="val")  # fmt: skip
    assert len(rows(alone, "questions", "val")) == 7 and len([*alone.missing()]) == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": "nowhere"}, "is not there"),
        ({"images": "nowhere"}, "is no folder"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    keys, _ = nlvr(tmp_path)
    with pytest.raises(UserError, match=said):
        source("nlvr", **{**keys, "images": pictures(tmp_path / "i", "a.png"), **change})


def test_a_name_that_says_no_split_and_a_picture_that_leaves_its_folder(tmp_path: Path) -> None:
    keys, _ = gqa(tmp_path)
    file = Path(keys["annotations"])
    images = pictures(tmp_path / "images", "n0.jpg")
    with pytest.raises(UserError, match=r"say it by --set source\.split=val"):
        source("gqa", images=images, annotations=str(file.rename(tmp_path / "questions.json")))
    (tmp_path / "val_questions.json").write_text((tmp_path / "questions.json").read_text().replace('"n0"', '"../n0"'))
    with pytest.raises(UserError, match="leaves its folder"):
        source("gqa", images=images, annotations=str(tmp_path / "val_questions.json"))
