"""VQA v2's and OK-VQA's official files, and `datasets`: pictures once, in order, ten answers; what is odd is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


ASKED = [(9, 300, "What is it?"), (3, 42, "Is it red?"), (7, 300, "How many?")]
"""question_id, image_id, question."""


def questions(folder: Path, part: str, asked: Any = ASKED, prefix: str = "v2_OpenEnded_mscoco") -> Path:
    rows = [{"image_id": image, "question": text, "question_id": one} for one, image, text in asked]
    path = folder / f"{prefix}_{part}_questions.json"
    path.write_text(json.dumps({"info": {}, "data_subtype": part, "data_type": "mscoco", "questions": rows}))
    return path


def annotations(folder: Path, part: str, asked: Any = ASKED, **more: Any) -> Path:
    rows = [{"question_type": f"kind {one}", "multiple_choice_answer": "red", "image_id": image, "question_id": one,
             "answer_type": "other", **more,
             "answers": [{"answer": "red" if n < 8 else f"{n}", "answer_confidence": "yes", "answer_id": n + 1}
                         for n in range(10)]} for one, image, _ in asked[::-1]]  # fmt: skip
    path = folder / f"v2_mscoco_{part}_annotations.json"
    path.write_text(json.dumps({"info": {}, "data_subtype": part, "annotations": rows}))
    return path


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number))
    return folder


def official(folder: Path) -> dict[str, Any]:
    """All splits, in folders as they are unpacked."""
    for part in ("train2014", "val2014", "test2015", "test-dev2015"):
        number = {"train2014": 0, "val2014": 100}.get(part, 200)
        asked = [
            (one + number, image + number, text) for one, image, text in ASKED[: 2 if part == "test-dev2015" else 3]
        ]
        questions(folder, part, asked)
        if part.startswith(("train", "val")):
            annotations(folder, part, asked)
        place = part.replace("-dev", "")
        pictures(folder / "coco", *(f"{place}/COCO_{place}_{image:012d}.jpg" for _, image, _ in asked))
    return {"images": folder / "coco", "questions": folder, "annotations": folder}


def test_a_picture_of_many_questions_is_stored_once_and_the_order_is_the_files(tmp_path: Path) -> None:
    found = source("vqav2", **official(tmp_path))
    assert {(t.name, t.split, t.rows) for t in found.tables()} == {
        (name, split, count)
        for split, asked in (("train", 3), ("val", 3), ("test", 3), ("test_dev", 2))
        for name, count in (("images", 2), ("questions", asked))
    }
    assert not list(found.missing())
    assert [row["image_id"] for row in rows(found, "images", "val")] == ["400", "142"]
    assert Path(rows(found, "images", "test_dev")[0]["image"]).name == "COCO_test2015_000000000500.jpg"
    assert rows(found, "questions", step=2) == [
        {"question_id": f"{one}", "question": text, "image_row": row, "question_type": f"kind {one}", "answer": "red",
         "answer_type": "other", "answers": [*["red"] * 8, "8", "9"]}
        for (one, _, text), row in zip(ASKED, (0, 1, 0), strict=True)
    ]  # fmt: skip
    unanswered = rows(found, "questions", "test")
    assert all(row["answers"] == [] and row["answer"] == row["answer_type"] == "" for row in unanswered)


def test_splits_limits_and_folders(tmp_path: Path) -> None:
    keys = official(tmp_path)
    joined = source("vqav2", **keys, train_splits=["train", "val"])
    assert [row["question_id"] for row in rows(joined, "questions")] == ["9", "3", "7", "109", "103", "107"]
    assert [row["image_row"] for row in rows(joined, "questions")] == [0, 1, 0, 2, 3, 2]
    assert not list(joined.missing())
    first = source("vqav2", **keys, limit=1)
    assert [(t.name, t.rows) for t in first.tables() if t.split == "val"] == [("images", 1), ("questions", 1)]
    with pytest.raises(UserError, match=r"--train-splits 'vall' is no split of .*did you mean 'val'"):
        source("vqav2", **keys, train_splits=["train", "vall"])
    one = {"questions": tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", "annotations": None}
    nested = source("vqav2", **{**keys, **one})
    flat = source("vqav2", images=keys["images"] / "val2014", **one)
    assert not list(flat.missing()) and flat.identity() == nested.identity()
    of_2017 = pictures(tmp_path / "2017", "000000000400.jpg", "000000000142.jpg")
    assert not list(source("vqav2", images=of_2017, **one).missing())


def test_missing_pictures_are_counted_and_named(tmp_path: Path, mmkd: Any) -> None:
    keys = official(tmp_path)
    (tmp_path / "coco/val2014/COCO_val2014_000000000142.jpg").unlink()
    flags = [word for name, value in keys.items() for word in (f"--{name}", value)]
    said = mmkd("prepare-data", "--source", "vqav2", *flags, "--name", "vqa", code=2).stderr
    assert "1 file is missing" in said and "val2014/COCO_val2014_000000000142.jpg" in said
    done = json.loads(mmkd("prepare-data", "--source", "vqav2", *flags, "--name", "vqa", "--skip-bad", "--json").stdout)
    assert done["rows"]["val"] == {"images": 2, "questions": 3} and done["rejected"] == 1
    opened = datasets.load_from_disk(tmp_path / "work/data/vqa/questions")
    assert {split: len(opened[split]) for split in opened} == {"test": 3, "test_dev": 2, "train": 3, "val": 3}


def test_ok_vqa_has_answers_of_its_own(tmp_path: Path) -> None:
    """No commonest answer is given there, an answer has its raw form beside it."""
    asked = questions(tmp_path, "val2014", prefix="OpenEnded_mscoco")
    given = annotations(tmp_path, "val2014", question_type="four")
    text = json.loads(given.read_text())
    for row in text["annotations"]:
        del row["multiple_choice_answer"]
        row["answers"] = [{"answer": a, "raw_answer": f"{a}ing"} for a in ["race", "ride", "ride"]]
    given.write_text(json.dumps(text))
    found = source("okvqa", images=tmp_path, questions=asked, annotations=given)
    row = rows(found, "questions", "val")[0]
    assert (row["answer"], row["answers"], row["question_type"]) == ("ride", ["race", "ride", "ride"], "four")


@pytest.mark.parametrize(
    ("question", "annotation", "said"),
    [
        ([(9, 300, "a?"), (9, 300, "b?")], None, "two questions have the question_id 9"),
        ([(9, "../../etc/passwd", "a?")], None, "path '../../etc/passwd' leaves its folder"),
        ([(9, 300, 5)], None, r"questions\[0\], field 'question': a text is needed"),
        ([(True, 300, "a?")], None, r"questions\[0\], field 'question_id'"),
        (ASKED, ASKED[:2], r"1 questions have no answers in --annotations \(the first: 7\)"),
        (ASKED[:2], ASKED, r"1 questions of --annotations are not asked there \(the first: 7\)"),
        (ASKED, [(9, 1, ""), *ASKED[1:]], "1 questions are of other pictures in --annotations"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, question: Any, annotation: Any, said: str) -> None:
    asked = questions(tmp_path, "val2014", question)
    given = annotations(tmp_path, "val2014", annotation) if annotation else None
    with pytest.raises(UserError, match=said) as error:
        source("vqav2", images=tmp_path, questions=asked, annotations=given)
    assert str(tmp_path) in str(error.value)


def test_files_that_are_not_of_one_split_are_refused(tmp_path: Path) -> None:
    asked, given = questions(tmp_path, "val2014"), annotations(tmp_path, "train2014")
    with pytest.raises(UserError, match="has answers of train2014, of which --questions has no file"):
        source("vqav2", images=tmp_path, questions=asked, annotations=given)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--questions .* holds no \*questions.json"):
        source("vqav2", images=tmp_path, questions=tmp_path / "empty")
    with pytest.raises(UserError, match=r"--annotations .* is not there"):
        source("vqav2", images=tmp_path, questions=asked, annotations=tmp_path / "gone.json")


def test_an_empty_question_is_rejected_and_stays(tmp_path: Path, mmkd: Any) -> None:
    asked = questions(tmp_path, "val2014", [(9, 300, "What?"), (3, 300, " ")])
    pictures(tmp_path, "COCO_val2014_000000000300.jpg")
    flags = ("--source", "okvqa", "--images", tmp_path, "--questions", asked, "--name", "some")
    said = mmkd("prepare-data", *flags, code=2).stderr
    assert "question '3' (val/questions row 1, from 0) can't be used: the question is empty" in said
    done = json.loads(mmkd("prepare-data", *flags, "--skip-bad", "--json").stdout)
    assert done["rows"]["val"]["questions"] == 2 and done["rejected"] == 1


SAID = [{"answer": "red" if n < 8 else f"{n}", "answer_confidence": "yes", "answer_id": n + 1} for n in range(10)]


def hub_split(asked: Any = ASKED, answered: bool = True, **more: Any) -> datasets.Dataset:
    """A split with the columns of the hub's versions: a row a question, each with its picture again."""
    rows = [{"question_id": one, "image_id": image, "question": text, "image": {"bytes": jpeg(image % 7), "path": None},
             "question_type": f"kind {one}" if answered else None, "answer_type": "other" if answered else None,
             "multiple_choice_answer": "red" if answered else None, "answers": SAID if answered else None}
            for one, image, text in asked]  # fmt: skip
    text, number = datasets.Value("string"), datasets.Value("int64")
    said = {"answer": text, "answer_confidence": text, "answer_id": number}
    texts = dict.fromkeys(("question", "question_type", "answer_type", "multiple_choice_answer"), text)
    columns = {"question_id": number, "image_id": number, "image": datasets.Image(), "answers": [said], **texts}
    return datasets.Dataset.from_list(rows, features=datasets.Features(columns))


def test_a_datasets_folder_gives_what_the_official_files_give(tmp_path: Path) -> None:
    """Against the reader of the official JSON, split by split; the pictures by their bytes."""
    (tmp_path / "files").mkdir()
    files = source("vqav2", **official(tmp_path / "files"))
    parts = (("train", 0, 3), ("validation", 100, 3), ("testdev", 200, 2), ("test", 200, 3))
    moved = {part: [(one + n, image + n, text) for one, image, text in ASKED[:count]] for part, n, count in parts}
    made = {part: hub_split(asked, not part.startswith("test")) for part, asked in moved.items()}
    datasets.DatasetDict(made).save_to_disk(tmp_path / "d")
    found = source("vqav2", annotations=tmp_path / "d")
    assert {(t.name, t.split, t.rows) for t in found.tables()} == {(t.name, t.split, t.rows) for t in files.tables()}
    for split in ("train", "val", "test_dev", "test"):
        assert rows(found, "questions", split, step=2) == rows(files, "questions", split)
        ids = [row["image_id"] for row in rows(files, "images", split)]
        assert [(row["image_id"], row["image"]) for row in rows(found, "images", split, step=1)] == [
            (one, jpeg(int(one) % 7)) for one in ids
        ]
    joined = source("vqav2", annotations=tmp_path / "d", train_splits=["train", "val"])
    assert [row["image_row"] for row in rows(joined, "questions")] == [0, 1, 0, 2, 3, 2]
    first = source("vqav2", annotations=tmp_path / "d", limit=1)
    assert [(t.name, t.rows) for t in first.tables() if t.split == "val"] == [("images", 1), ("questions", 1)]
    assert not list(found.missing()) and found.identity() == joined.identity()


def test_datasets_are_prepared_from_the_command_line(tmp_path: Path, mmkd: Any) -> None:
    (tmp_path / "d").mkdir()
    hub_split([*ASKED, (8, 5, " ")]).to_parquet(tmp_path / "d" / "validation-0.parquet")
    flags = ("--source", "okvqa", "--annotations", tmp_path / "d", "--name", "some", "--skip-bad", "--json")
    done = json.loads(mmkd("prepare-data", *flags).stdout)
    assert done["rows"] == {"val": {"images": 3, "questions": 4}} and done["rejected"] == 1
    stored = datasets.load_from_disk(tmp_path / "work/data/some/images")["val"]
    assert stored["image_id"][:] == ["300", "42", "5"]


@pytest.mark.parametrize("shape", ["texts", "objects", "lists"])
def test_ok_vqa_in_datasets_has_no_commonest_answer(tmp_path: Path, shape: str) -> None:
    """Answers as texts, as objects with a raw form, and as older `datasets` stored lists of objects."""
    said = ["race", "ride", "ride"]
    given: Any = {"texts": said, "objects": [{"answer": a, "raw_answer": f"{a}ing"} for a in said],
                  "lists": {"answer": said, "raw_answer": said}}[shape]  # fmt: skip
    part = hub_split(ASKED[:2]).remove_columns(["multiple_choice_answer", "answers"])
    part.add_column("answers", [given, given]).save_to_disk(tmp_path / "d")
    row = rows(source("okvqa", annotations=tmp_path / "d"), "questions")[1]
    assert (row["answer"], row["answers"], row["question_type"]) == ("ride", said, "kind 3")


def test_datasets_that_do_not_fit_are_named(tmp_path: Path) -> None:
    made = hub_split()
    for number, (part, said) in enumerate((
        (made.rename_column("image_id", "picture"), "has no column 'image_id', its columns are .*'picture'"),
        (made.remove_columns("image"), "has no column 'image'"),
        (made.remove_columns("image").add_column("image", ["x"] * 3), "column 'image' holds .*a datasets.Image"),
        (hub_split([ASKED[0], ASKED[0]]), "two questions have the question_id 9"),
    )):  # fmt: skip
        part.save_to_disk(tmp_path / f"d{number}")
        with pytest.raises(UserError, match=said):
            source("vqav2", annotations=tmp_path / f"d{number}")
    for keys in ({"images": tmp_path}, {"questions": "q.json", "annotations": "a.json"}, {}):
        with pytest.raises(UserError, match="or a datasets folder or hub id by --annotations alone"):
            source("vqav2", **keys)
