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
    lines += [{"step": 8, "epoch": 0, "val/loss": 0.75}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_curves_are_grouped(tmp_path: Path) -> None:
    captions = [figure.caption for figure in curves(a_run(tmp_path / "run") / "metrics.jsonl")]
    assert captions == [
        "Training loss, by step.",
        "Learning rate, by step.",
        "Validation loss, by step.",
    ]


def test_the_page_has_last_values_inputs_and_configuration(tmp_path: Path) -> None:
    page = write_run_report(a_run(tmp_path / "run")).read_text()
    for text in (
        "cache cnn (abababababab)",
        "train.epochs",
        "&lt;script&gt;",
        "<td>val/loss</td>",
        ">0.75</td>",
        ">0.25</td>",
    ):
        assert text in page, text


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')
    with pytest.raises(Refused, match=r"metrics.jsonl line 10 .*again"):
        curves(folder / "metrics.jsonl")


def test_reports_and_bench_scores_have_figures_of_their_own(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 0, "lr": 0.1, "loss": 3.5, "contrastive": 3.5, "positive_cosine": 0.1, "norm": null}\n'
        '{"step": 1, "epoch": 0, "val/loss": 3.0, "val/positive_cosine": 0.2}\n'
    )
    (folder / "evaluations.jsonl").write_text('{"step": 1, "mean_recall": 5.0, "image_to_text_median_rank": 41.0}\n')
    captions = [figure.caption for name in ("metrics", "evaluations") for figure in curves(folder / f"{name}.jsonl")]
    assert captions == [
        "Learning rate, by step.",
        "Training loss, by step.",
        "Training reports, by step.",
        "Validation loss, by step.",
        "Validation reports, by step.",
        "Scores on the bench, by step.",
        "Ranks on the bench, by step.",
    ]
    page = write_run_report(folder).read_text()
    assert page.count("<figure>") == 7 and "image_to_text_median_rank" in page
