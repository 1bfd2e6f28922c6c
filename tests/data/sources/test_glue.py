"""GLUE's nine tasks in their official TSV files and as `datasets` has them; real excerpts where they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.glue_tasks import GLUE
from tests.data.sources.reading import rows, source

OFFICIAL = {
    "cola": ("CoLA", None, "gj04\t{label}\t\t{a}", "index\tsentence", "0\t{a}"),
    "sst2": ("SST-2", "sentence\tlabel", "{a}\t{label}", "index\tsentence", "0\t{a}"),
    "mrpc": ("MRPC", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{label}\t1\t2\t{a}\t{b}",
             "index\t#1 ID\t#2 ID\t#1 String\t#2 String", "0\t1\t2\t{a}\t{b}"),
    "qqp": ("QQP", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "5\t1\t2\t{a}\t{b}\t{label}",
            "id\tquestion1\tquestion2", "0\t{a}\t{b}"),
    "stsb": ("STS-B", "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
             "0\tx\tx\tx\tx\tx\tx\t{a}\t{b}\t{label}",
             "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
             "0\tx\tx\tx\tx\tx\tx\t{a}\t{b}"),
    "mnli": ("MNLI", "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
             "0\t1\t1\tfiction\t{a}\t{b}\tneutral\t{label}", "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2",
             "0\t1\t1\tfiction\t{a}\t{b}"),
    "qnli": ("QNLI", "index\tquestion\tsentence\tlabel", "0\t{a}\t{b}\t{label}", "index\tquestion\tsentence",
             "0\t{a}\t{b}"),
    "rte": ("RTE", "index\tsentence1\tsentence2\tlabel", "0\t{a}\t{b}\t{label}", "index\tsentence1\tsentence2",
            "0\t{a}\t{b}"),
    "wnli": ("WNLI", "index\tsentence1\tsentence2\tlabel", "0\t{a}\t{b}\t{label}", "index\tsentence1\tsentence2",
             "0\t{a}\t{b}"),
}  # fmt: skip
"""Task -> folder, header and line of train, header and line of test."""
TEXTS = [('He said "no', "It's 5 o'clock, \"he said"), ("One.", "Two.")]
HUB = {"cola": ("sentence", ""), "sst2": ("sentence", ""), "qqp": ("question1", "question2"),
       "mnli": ("premise", "hypothesis"), "qnli": ("question", "sentence")}  # fmt: skip
"""Columns of `datasets`, where they are not sentence1, sentence2."""


def official(folder: Path, task: str) -> Path:
    """The labels are the first and the last of the task's; files end their lines as Windows does, one with a BOM."""
    name, header, line, test_header, test_line = OFFICIAL[task]
    in_words = task in ("mnli", "qnli", "rte")
    labels: Any = (GLUE[task].names[0], GLUE[task].names[-1]) if in_words else (0.0, 4.8) if task == "stsb" else (0, 1)
    own = folder / name
    own.mkdir(parents=True)
    lines = [line.format(a=a, b=b, label=label) for (a, b), label in zip(TEXTS, labels, strict=True)]
    dev, test = ("dev_matched", "test_matched") if task == "mnli" else ("dev", "test")
    for split in ("train", dev, *(["dev_mismatched"] if task == "mnli" else [])):
        (own / f"{split}.tsv").write_text(
            "\r\n".join([*([header] if header else []), *lines, ""]), "utf-8-sig", newline=""
        )
    unlabelled = [test_line.format(a=a, b=b) for a, b in TEXTS]
    (own / f"{test}.tsv").write_text("\n".join([test_header, *unlabelled]))
    return folder


def test_there_is_a_case_of_every_task() -> None:
    assert OFFICIAL.keys() == GLUE.keys() and len(GLUE) == 9


@pytest.mark.parametrize("task", OFFICIAL)
def test_official_files_and_datasets_hold_the_same(tmp_path: Path, task: str) -> None:
    found = source("glue", task=task, annotations=official(tmp_path, task))
    splits = {t.split: t.rows for t in found.tables()}
    assert splits == dict.fromkeys(["train", "val", "test", *(["val_mismatched"] if task == "mnli" else [])], 2)
    one = source("glue", task=task, annotations=tmp_path / OFFICIAL[task][0])
    assert rows(one, "texts") == rows(found, "texts")
    pair = task not in ("cola", "sst2")
    last = 4.8 if task == "stsb" else len(GLUE[task].names) - 1
    expected = [{"text_id": str(n), "text": a, "text_b": b if pair else "", "image_row": -1,
                 "label": pytest.approx((0, last)[n])} for n, (a, b) in enumerate(TEXTS)]  # fmt: skip
    assert rows(found, "texts", step=1) == expected == rows(found, "texts", "val")
    assert [row["label"] for row in rows(found, "texts", "test")] == [None if task == "stsb" else -1] * 2
    features = found.tables()[0].features["label"]
    assert tuple(getattr(features, "names", ())) == GLUE[task].names
    first, second = HUB.get(task, ("sentence1", "sentence2"))
    columns = {first: [a for a, _ in TEXTS], "label": [0, last], "idx": [0, 1]}
    table = datasets.Dataset.from_dict({**columns, **({second: [b for _, b in TEXTS]} if second else {})})
    name = "validation_matched" if task == "mnli" else "validation"
    datasets.DatasetDict({name: table}).save_to_disk(tmp_path / "saved" / task)
    for place in (tmp_path / "saved", tmp_path / "saved" / task):
        assert rows(source("glue", task=task, annotations=place), "texts", "val") == expected


def test_real_files(real_data: Path, tmp_path: Path) -> None:
    """Counts, and the share of paraphrases and of praise, of the task's own description."""
    found = source("glue", task="mrpc", annotations=real_data / "glue")
    train, val = rows(found, "texts"), rows(found, "texts", "val")
    assert (len(train), len(val)) == (3668, 408) and not any("problem" in row for row in (*train, *val))
    assert sum(row["label"] for row in val) == 279  # 68.4 %, which always saying yes gets
    (tmp_path / "SST-2").mkdir()
    shutil.copy(real_data / "glue/SST-2/test.tsv", tmp_path / "SST-2/dev.tsv")
    sst2 = rows(source("glue", task="sst2", annotations=tmp_path), "texts", "val")
    assert len(sst2) == 872 and sum(row["label"] for row in sst2) == 444


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        ("sst2", "sentense\tlabel\nx\t1\n", r"no column 'sentence', .* \(did you mean 'sentense'\?\)"),
        ("sst2", "sentence\tlable\nx\t1\n", r"no column 'label', .* \(did you mean 'lable'\?\)"),
        ("sst2", "sentence\tlabel\nx\t7\n", "row 1, column 'label': label '7' is none of"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailmnt\n", "did you mean 'entailment'"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t5.5\n", "a number from 0 to 5 is needed, not '5.5'"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\tnan\n", "a number from 0 to 5 is needed"),
        ("sst2", "sentence\tlabel\n", "holds no rows"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, task: str, text: str, said: str) -> None:
    (tmp_path / "train.tsv").write_text(text)
    with pytest.raises(UserError, match=said):
        source("glue", task=task, annotations=tmp_path)


def test_a_line_with_too_few_fields_is_rejected_and_stays(tmp_path: Path, mmkd: Any) -> None:
    """QQP's training file has some."""
    header = OFFICIAL["qqp"][1]
    (tmp_path / "train.tsv").write_text(f"{header}\n1\t1\t2\ta?\tb?\t1\n2\t1\t2\tbroken\n3\t1\t2\tc?\td?\t0\n")
    flags = ("--source", "glue", "--set", "source.task=qqp", "--annotations", tmp_path, "--name", "q")
    said = mmkd("prepare-data", *flags, code=2).stderr
    assert "text '1' (train/texts row 1, from 0) can't be used: row 2 of train.tsv has 4 fields, not 6" in said
    done = json.loads(mmkd("prepare-data", *flags, "--skip-bad", "--json").stdout)
    assert done["rows"] == {"train": {"texts": 3}} and done["rejected"] == 1
    kept = datasets.load_from_disk(tmp_path / "work/data/q/texts")["train"]
    assert kept["label"][:] == [1, -1, 0] and kept.features["label"].names == ["not_duplicate", "duplicate"]
    assert "annotations" in mmkd("prepare-data", "--source", "glue", "--set", "source.task=qqp", code=2).stderr
    assert "key 'source.task'" in mmkd("prepare-data", "--source", "glue", "--annotations", tmp_path, code=2).stderr
