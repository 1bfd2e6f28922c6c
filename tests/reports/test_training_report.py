"""A run's page: its curves by group, its last values, its configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmkd_cli.core.errors import Refused
from mmkd_cli.reports.training import curves, write_run_report


def a_run(folder: Path) -> Path:
    folder.mkdir()
    plan = {
        "stage": "distill",
        "inputs": [{"role": "cache", "kind": "cache", "name": "cnn", "fingerprint": "ab" * 32}],
        "config": {"train": {"epochs": 3}, "method": {"name": "<script>"}},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    lines = [{"step": s, "epoch": 0, "loss": 2.0 / s, "regression_text_loss": 1.0 / s, "lr": 0.1} for s in range(1, 9)]
    lines += [{"step": 8, "epoch": 0, "val/loss": 0.75, "flickr8k-retrieval/mean_recall": 12.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_curves_are_grouped(tmp_path: Path) -> None:
    captions = [figure.caption for figure in curves(a_run(tmp_path / "run") / "metrics.jsonl")]
    assert captions == [
        "Training loss, by step.",
        "Learning rate, by step.",
        "Validation, by step.",
        "flickr8k-retrieval, by step.",
    ]


def test_the_page_has_last_values_inputs_and_configuration(tmp_path: Path) -> None:
    page = write_run_report(a_run(tmp_path / "run")).read_text()
    for text in ("cache cnn (abababababab)", "train.epochs", "&lt;script&gt;", "<td>val/loss</td>", ">12.50</td>", ">0.25</td>"):
        assert text in page, text


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')
    with pytest.raises(Refused, match=r"metrics.jsonl line 10 .*again"):
        curves(folder / "metrics.jsonl")
