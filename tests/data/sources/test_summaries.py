"""XSum and CNN/DailyMail: the releases, line pairs, tables and `datasets` give the same articles and summaries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmkd_cli.core.errors import UserError
from tests.data.sources.reading import rows, source

PAIRS = [("A dog ran.\nIt was glad.", "A dog."), ("Rain fell.", "It rained."), ('Two "met", he said.', "A meeting.")]


def xsum_release(folder: Path) -> Path:
    """Ids 30, 31 of train, 32 of test; a page's own lines stand in the article."""
    (folder / "bbc-summary-data").mkdir(parents=True)
    for number, (text, summary) in enumerate(PAIRS, 30):
        body = "\n\n".join(["Share this with", *text.split("\n"), "Email"])
        parts = {"URL": "http://x", "TITLE": "no summary", "FIRST-SENTENCE": summary, "RESTBODY": body}
        lines = "\n\n".join(f"[SN]{name}[SN]\n{value}" for name, value in parts.items())
        (folder / f"bbc-summary-data/{number}.summary").write_text(lines)
    splits = {"train": ["31", "30"], "validation": [], "test": ["32"]}
    (folder / "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json").write_text(json.dumps(splits))
    return folder


def test_the_release_of_xsum(tmp_path: Path) -> None:
    found = source("xsum", annotations=xsum_release(tmp_path))
    assert [(t.split, t.rows) for t in found.tables()] == [("train", 2), ("val", 0), ("test", 1)]
    assert rows(found, "texts", step=1) == [
        {"text_id": "31", "text": "Rain fell.", "summary": "It rained.", "image_row": -1},
        {"text_id": "30", "text": "A dog ran.\nIt was glad.", "summary": "A dog.", "image_row": -1},
    ]
    before = found.identity()
    (tmp_path / "bbc-summary-data/31.summary").unlink()
    (tmp_path / "bbc-summary-data/30.summary").write_text("[SN]RESTBODY[SN]\nA dog.")
    again = source("xsum", annotations=tmp_path)
    assert [Path(path).name for path in again.missing()] == ["31.summary"] and again.identity() != before
    assert [row["problem"] for row in rows(again, "texts")] == [
        "the file is not there", f"file {tmp_path}/bbc-summary-data/30.summary has no summary"
    ]  # fmt: skip


def test_the_release_of_cnn_dailymail(tmp_path: Path) -> None:
    """Stories lie under the SHA-1 of their URL; lines without an end get a full stop, as in See et al."""
    urls = ["http://web.archive.org/a", "http://web.archive.org/b"]
    ids = [hashlib.sha1(url.encode()).hexdigest() for url in urls]
    for folder, one in zip(("cnn/stories", "dailymail/stories"), ids, strict=True):
        (tmp_path / folder).mkdir(parents=True)
        text = f"{folder} has it\n\n“It ends.”\n\n@highlight\n\nA dog\n\n@highlight\n\nIs it glad?"
        (tmp_path / folder / f"{one}.story").write_text(text)
    (tmp_path / "url_lists").mkdir()
    (tmp_path / "url_lists/all_test.txt").write_text("\n".join(urls))
    found = source("cnn-dailymail", annotations=tmp_path)
    assert [(row["text_id"], row["text"]) for row in rows(found, "texts", "test")] == [
        (ids[0], "cnn/stories has it . “It ends.”"), (ids[1], "dailymail/stories has it . “It ends.”")
    ]  # fmt: skip
    assert {row["summary"] for row in rows(found, "texts", "test")} == {"A dog .\nIs it glad?"}


def test_lines_tables_and_datasets_hold_the_same(tmp_path: Path) -> None:
    flat = [(text.replace("\n", " "), summary) for text, summary in PAIRS]
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/valid.source").write_text("".join(f"{text}\n" for text, _ in flat))
    (tmp_path / "lines/valid.target").write_text("".join(f"{summary}\n" for _, summary in flat))
    (tmp_path / "lines/test.source").write_text("An article.\n")
    (tmp_path / "table").mkdir()
    named = [{"article": text, "highlights": summary} for text, summary in flat]
    (tmp_path / "table/val.jsonl").write_text("\n".join(map(json.dumps, named)))
    datasets.DatasetDict({"validation": datasets.Dataset.from_list(named)}).save_to_disk(tmp_path / "saved")
    expected = [{"text_id": str(n), "text": text, "summary": summary, "image_row": -1}
                for n, (text, summary) in enumerate(flat)]  # fmt: skip
    for place in ("lines", "table", "saved"):
        found = source("cnn-dailymail", annotations=tmp_path / place)
        assert rows(found, "texts", "val", step=2) == expected
    lines = source("cnn-dailymail", annotations=tmp_path / "lines")
    assert rows(lines, "texts", "test")[0]["summary"] == ""  # no .target: no summaries, and no problem
    assert [
        r["text"] for r in rows(source("cnn-dailymail", annotations=tmp_path / "table", limit=1), "texts", "val")
    ] == [flat[0][0]]


def test_ids_are_the_tables_own(tmp_path: Path) -> None:
    table = [{"document": "A.", "summary": "a", "id": "7"}, {"document": "B.", "summary": "b", "id": 5}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, table)))
    assert [r["text_id"] for r in rows(source("xsum", annotations=tmp_path / "test.jsonl"), "texts", "test")] == [
        "7",
        "5",
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, [*table, {**table[0], "id": 7}])))
    with pytest.raises(UserError, match=r"test.jsonl, line 3: two rows have the id '7'"):
        source("xsum", annotations=tmp_path)
    part = datasets.Dataset.from_dict({"document": ["a", "b"], "summary": ["a", "b"], "id": ["3", "3"]})
    part.save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match="two rows have the id '3'"):
        source("xsum", annotations=tmp_path / "saved")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"train.jsonl": '{"documnet": "x"}'},
            r"no column 'document', .*text_column=NAME \(did you mean 'documnet'\?\)",
        ),
        ({"train.jsonl": '{"document": 3}'}, r"line 1, column 'document': a text is needed, not 3"),
        ({"train.csv": "document,summary\na,b,c\n"}, "row 1 .*3 fields, the header has 2"),
        ({"val.csv": "document\na\n", "valid.jsonl": '{"document": "a"}'}, "is split 'val', which another one is, too"),
        ({"train.source": "a\nb\n", "train.target": "a\n"}, "has 2 lines, .*train.target 1"),
        ({"train.jsonl": ""}, "is empty"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        source("xsum", annotations=tmp_path)


def test_an_empty_summary_is_rejected_and_stays(tmp_path: Path, mmkd: Any) -> None:
    (tmp_path / "train.source").write_text("one\ntwo\n")
    (tmp_path / "train.target").write_text("1\n\n")
    flags = ("--source", "xsum", "--annotations", tmp_path, "--name", "x")
    assert "text '1' (train/texts row 1, from 0) can't be used: the summary is empty" in mmkd(
        "prepare-data", *flags, code=2
    ).stderr  # fmt: skip
    document = json.loads(mmkd("prepare-data", *flags, "--skip-bad", "--json").stdout)
    assert document["rows"] == {"train": {"texts": 2}} and document["rejected"] == 1
    kept = datasets.load_from_disk(tmp_path / "work/data/x/texts")["train"]
    assert kept.column_names == ["text_id", "text", "image_row", "summary"] and kept["summary"][:] == ["1", ""]
