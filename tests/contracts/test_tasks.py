"""What every registered task of `generate` keeps to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.benches.judged_files import read_said_csv
from mmkd_cli.benches.result_files import read_results
from mmkd_cli.core import registry
from mmkd_cli.core.config import describe
from mmkd_cli.core.contracts import Task, TextItem
from mmkd_cli.core.errors import UserError
from mmkd_cli.stages.generate import official_file

FIELDS = {"caption": ("image_id", "caption"), "vqa": ("question_id", "answer"), "text": ("id", "text"),
          "nlvr": ("identifier", "prediction"), "nlvr2": ("identifier", "prediction"),
          "r2r": ("instr_id", "trajectory"), "rxr": ("instruction_id", "path")}  # fmt: skip
"""Task -> what the official file calls an id and its text."""


def tables() -> dict[str, Any]:
    n = 7
    return {
        "images": datasets.Dataset.from_dict({"image_id": [str(i) for i in range(n)]}),
        "texts": datasets.Dataset.from_dict({"text_id": [f"t{i}" for i in range(n)], "image_row": list(range(n)),
                                             "text": [f"a {i}" for i in range(n)]}),
        "questions": datasets.Dataset.from_dict({"question_id": [str(9 + i) for i in range(n)],
                                                 "question": [f"is it {i}?" for i in range(n)],
                                                 "image_row": [i % 3 for i in range(n)],
                                                 "second_image_row": [3] * n}),
        "instructions": datasets.Dataset.from_dict({"instruction_id": [str(9 + i) for i in range(n)],
                                                    "instruction": [f"go {i}" for i in range(n)],
                                                    "language": ["en-IN"] * n, "scan": ["A"] * n,
                                                    "path": [["a", "b"]] * n, "heading": [0.5] * n}),
    }  # fmt: skip


def made(name: str) -> Task:
    chosen = registry.load("tasks", name)
    return chosen(chosen.Config())  # type: ignore[no-any-return]


def test_there_is_a_case_of_every_registered_task() -> None:
    assert FIELDS.keys() == registry.TABLES["tasks"].keys()


@pytest.mark.parametrize("name", FIELDS)
def test_a_task_has_an_item_a_row_and_an_official_file(tmp_path: Path, name: str) -> None:
    task, data = made(name), tables()
    assert task.rows(data) == 7 and task.files() == {}
    parts = [*task.items(data, 0, 3), *task.items(data, 3, 7)]
    assert parts == list(task.items(data, 0, 7)) and len({item.id for item in parts}) == 7
    assert all(isinstance(item, TextItem) and item.source for item in parts)
    assert all((item.image_row >= 0) == task.sees for item in parts)
    assert all(bool(item.more_rows) == (name == "nlvr2") for item in parts)
    if task.table == "instructions":
        walk = [["a", 0.5, 0.0], ["b", 0.0, 0.0]]
        lines = [task.official(item.id, json.dumps(walk)) for item in parts]
        assert [str(line[FIELDS[name][0]]) for line in lines] == [item.id for item in parts]
        assert lines[0][FIELDS[name][1]] == (walk if name == "r2r" else ["a", "b"]) and parts[0].prefix == "A_a 0.5"
        return
    said = [f"text {item.id}" if not name.startswith("nlvr") else str(int(item.id) % 2 == 0) for item in parts]
    lines = [task.official(item.id, text) for item, text in zip(parts, said, strict=True)]
    file = tmp_path / task.file
    file.write_text(official_file(task.file, lines))
    if task.file.endswith(".csv"):
        found = [(one, truth.capitalize()) for one, truth in read_said_csv(file)]
    else:
        found = read_results(file, *FIELDS[name])
    assert found == [(item.id, text) for item, text in zip(parts, said, strict=True)]


@pytest.mark.parametrize("name", ["nlvr", "nlvr2"])
def test_whether_a_statement_is_true_is_written_as_the_release_does(name: str) -> None:
    task = made(name)
    assert [task.text_of(task.one("a dog."), said) for said in ("true", "False ")] == ["True", "False"]
    with pytest.raises(UserError, match="'perhaps' is neither True nor False"):
        task.text_of(task.one("a dog."), "perhaps")
    with pytest.raises(UserError, match=r"needs statements about \d pictures each"):
        task.rows({name: value for name, value in tables().items() if name != "questions"})


@pytest.mark.parametrize("name", FIELDS)
def test_every_key_is_described_and_says_where_its_default_comes_from(name: str) -> None:
    for row in describe(registry.load("tasks", name).Config):
        assert row.description and (row.source or row.key == "name"), row.key


@pytest.mark.parametrize(
    ("keys", "written", "text"),
    [
        ({}, " a dog \n runs ", "a dog runs"),
        ({"prompt": "A picture of <mask>."}, "A picture of a dog.", "a dog"),
        ({"prompt": "A picture of <mask>."}, "a dog", "a dog"),
    ],
)
def test_the_prompts_words_are_taken_off_a_caption(keys: dict[str, str], written: str, text: str) -> None:
    chosen = registry.load("tasks", "caption")
    task = chosen(chosen.Config(**keys))
    assert task.text_of(task.one(""), written) == text


@pytest.mark.parametrize(
    ("prefix", "written", "text"),
    [
        ("Question: {question} Answer:", " two. It is", "two"),
        ("Question: {question} Answer:", " 3.5", "3.5"),
        ("Question: {question} Answer:", "no.", "no"),
        ("Question: {question} Answer:", "", ""),
        ("", "Question: Answer: what? Answer: a red dog.", "a red dog"),
        ("", "a red dog", "a red dog"),
    ],
)
def test_an_answer_is_cut_out(prefix: str, written: str, text: str) -> None:
    chosen = registry.load("tasks", "vqa")
    task = chosen(chosen.Config(prefix=prefix))
    item = task.one("how many?")
    assert item.asked == "how many?" and item.prefix == prefix.replace("{question}", "how many?")
    assert item.source == "Question: how many? Answer: <mask>." and task.text_of(item, written) == text


def test_ids_are_numbers_where_official_files_have_numbers() -> None:
    task = made("caption")
    assert [task.official(one, "")["image_id"] for one in ("42", "007", "a1", "²", "")] == [42, "007", "a1", "²", ""]


def labelled(label: list[Any], feature: Any) -> dict[str, Any]:
    columns = {"text_id": [str(i) for i in range(len(label))], "text": ["so bad {label} .", "good .", " "],
               "label": label}  # fmt: skip
    text = datasets.Value("string")
    return {"texts": datasets.Dataset.from_dict(columns, datasets.Features(
        {"text_id": text, "text": text, "label": feature}))}  # fmt: skip


TEMPLATE = "{label} to {other_label}: {text}"


@pytest.mark.parametrize(
    ("label", "feature"),
    [
        ([0, 1, -1], datasets.ClassLabel(names=["negative", "positive"])),
        (["negative", "positive", None], datasets.Value("string")),
    ],
)
def test_a_template_names_a_texts_style_and_the_other(label: list[Any], feature: Any) -> None:
    """The row of an empty text is one that was rejected; what stands in a text stays."""
    chosen = registry.load("tasks", "text")
    task, data = chosen(chosen.Config(template=TEMPLATE)), labelled(label, feature)
    items = [*task.items(data, 0, 1), *task.items(data, 1, 3)]
    assert [item.source for item in items][:2] == [
        "negative to positive: so bad {label} .",
        "positive to negative: good .",
    ]
    assert items[0].asked == "so bad {label} ."


def test_a_template_of_labels_needs_them() -> None:
    chosen = registry.load("tasks", "text")
    task = chosen(chosen.Config(template=TEMPLATE))
    two, three = (datasets.ClassLabel(names=[*"abc"][:count]) for count in (2, 3))
    for data, said in (
        (tables(), r"has \{label\}, and the data's texts have no column 'label'"),
        (labelled([0, -1, 0], two), "row 1 of the texts has no label"),
        (labelled([0, 1, 2], three), r"has \{other_label\}, and the labels are 3 \(a, b, c\)"),
        (labelled([0.5, 1.0, 2.0], datasets.Value("float32")), "the labels are numbers"),
    ):
        with pytest.raises(UserError, match=said):
            task.items(data, 0, 3)
    with pytest.raises(UserError, match=r"has \{label\}, and a prompt has no label"):
        task.one("good .")
    only = chosen(chosen.Config(template="{label}: {text}"))
    assert [item.source for item in only.items(labelled([0, 2, 0], three), 1, 2)] == ["c: good ."]
