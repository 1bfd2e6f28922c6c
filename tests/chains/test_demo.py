"""`mmkd demo` in a small form: the chain runs, and its page shows pictures with what was written of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmkd_cli.cli import demo
from mmkd_cli.cli.app import app

SMALL = {
    "prepare-data": ["source.train=40", "source.val=6", "source.test=2"],
    "distill": ["train.max_steps=2", "train.batch_size=8"],
    "finetune": ["train.max_steps=2", "train.batch_size=8"],
}


def small(commands: Callable[[], list[list[str]]]) -> list[list[str]]:
    return [[*words, *(w for one in SMALL.get(words[0], []) for w in ("--set", one))] for words in commands()]


def test_the_demo_ends_with_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = small(demo.commands)
    monkeypatch.setattr(demo, "commands", lambda: chain)
    done = CliRunner().invoke(app, ["demo", "--root", str(tmp_path / "work")])
    assert done.exit_code == 0, (done.exception, done.output)
    page = tmp_path / "work" / "demo.html"
    assert str(page) in done.stdout

    text = unescape(page.read_text(encoding="utf-8"))
    results = tmp_path / "work" / "results"
    captions = json.loads((results / "demo-written" / "captions.json").read_text())
    answers = [json.loads(line) for line in (results / "demo-answers" / "predictions.jsonl").read_text().splitlines()]
    assert len(captions) == 6 and len(answers) == 30
    for line in captions:
        assert line["image_id"] in text and line["caption"] in text
    for line in answers:
        assert f"{line['question']} {line['answer']}" in text
    for name, title in demo.RESULTS.items():
        assert title in text
        for metric in json.loads((results / f"demo-{name}" / "scores.json").read_text())["metrics"]:
            assert metric in text
    assert text.count("data:image/jpeg") == 6

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    again = CliRunner().invoke(app, ["demo", "--root", str(tmp_path / "work")])
    assert again.exit_code == 0
    changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {page}


def test_the_demos_commands_can_be_read() -> None:
    shown = CliRunner().invoke(app, ["demo", "--show"])
    assert shown.exit_code == 0 and len(demo.commands()) == shown.output.count("$ mmkd")
