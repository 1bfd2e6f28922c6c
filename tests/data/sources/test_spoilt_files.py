"""Official files with any one value replaced, or any bytes: they are read, or one line says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkd_cli.core.errors import UserError
from tests.benches.bench_files import spoiled
from tests.data.sources.reading import rows, source

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ASKED = {"data_subtype": "val2014", "questions": [{"question_id": 1, "image_id": 2, "question": "what?"}]}
ANSWERED = {"data_subtype": "val2014", "annotations": [
    {"question_id": 1, "image_id": 2, "question_type": "what", "answer_type": "other", "multiple_choice_answer": "a",
     "answers": [{"answer": "a"}, {"answer": "b"}]}]}  # fmt: skip
NOCAPS = {"images": [{"id": 1, "file_name": "a.jpg", "domain": "in-domain"}],
          "annotations": [{"id": 3, "image_id": 1, "caption": "a cat"}]}  # fmt: skip
REWRITTEN = {"id": "3", "text": "bad", "label": 0, "references": ["good", "fine"]}


def read_or_refused(name: str, **keys: Any) -> None:
    """Every row of every table, or a UserError of one line."""
    try:
        found = source(name, **keys)
        for table in found.tables():
            read = rows(found, table.name, table.split)
            assert len(read) == table.rows and table.features.arrow_schema is not None
            json.dumps(read).encode()
        list(found.missing())
        found.identity()
    except UserError as error:
        assert "\n" not in str(error)


@MANY
@given(asked=spoiled(ASKED), answered=spoiled(ANSWERED), which=st.booleans())
def test_any_json_of_vqa(tmp_path: Path, asked: Any, answered: Any, which: bool) -> None:
    (tmp_path / "v_questions.json").write_text(json.dumps(asked if which else ASKED))
    (tmp_path / "v_annotations.json").write_text(json.dumps(ANSWERED if which else answered))
    read_or_refused("vqav2", images=tmp_path, questions=tmp_path, annotations=tmp_path)


@MANY
@given(document=spoiled(NOCAPS))
def test_any_json_of_nocaps(tmp_path: Path, document: Any) -> None:
    (tmp_path / "nocaps_val.json").write_text(json.dumps(document))
    read_or_refused("nocaps", images=tmp_path, annotations=tmp_path / "nocaps_val.json")


@MANY
@given(document=spoiled({"train": ["1", "2"], "test": ["3"]}))
def test_any_list_of_xsum(tmp_path: Path, document: Any) -> None:
    (tmp_path / "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json").write_text(json.dumps(document))
    read_or_refused("xsum", annotations=tmp_path)


@MANY
@given(row=spoiled(REWRITTEN))
def test_any_row_of_yelp(tmp_path: Path, row: Any) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    read_or_refused("yelp", annotations=tmp_path / "test.jsonl")


@MANY
@given(text=st.text(alphabet="ab01\t\n\r\"'\0é", max_size=60), task=st.sampled_from(["cola", "sst2", "stsb", "rte"]),
       header=st.booleans())  # fmt: skip
def test_any_tsv_of_glue(tmp_path: Path, text: str, task: str, header: bool) -> None:
    names = "index\tsentence\tsentence1\tsentence2\tlabel\tscore\n" if header else ""
    (tmp_path / "train.tsv").write_bytes((names + text).encode())
    read_or_refused("glue", task=task, annotations=tmp_path)


def test_half_a_surrogate_pair_and_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    (tmp_path / "nocaps_val.json").write_text(json.dumps(NOCAPS).replace("a cat", "\\ud800"))
    with pytest.raises(UserError, match=r"annotations\[0\], field 'caption': its text can't be stored \(surrogates"):
        source("nocaps", images=tmp_path, annotations=tmp_path / "nocaps_val.json")
    (tmp_path / "test.jsonl").write_text('{"text": "\\ud800"}')
    with pytest.raises(UserError, match="line 1, column 'text': its text can't be stored"):
        source("yelp", annotations=tmp_path / "test.jsonl")
    (tmp_path / "nocaps_val.json").write_text(json.dumps(NOCAPS).replace('"id": 1', '"id": 1' + "0" * 5000))
    with pytest.raises(UserError, match="is not JSON: Exceeds the limit"):
        source("nocaps", images=tmp_path, annotations=tmp_path / "nocaps_val.json")
