"""GLUE's result files on prepared tasks: scikit-learn's and scipy's figures, MNLI's two halves, before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mmkd_cli.core.errors import UserError
from mmkd_cli.stages import evaluate, prepare_data
from tests.conftest import Run
from tests.data.sources.test_glue import OFFICIAL, official
from tests.stages.small_chain import config_of, context

ROWS = 40


def made(folder: Path, task: str, split: str, labels: list[Any]) -> None:
    """Official files of a task, and one split with these labels."""
    name, header, line, *_ = OFFICIAL[task]
    if not (folder / name).exists():
        official(folder, task)
    lines = [line.format(a=f"a {n}", b=f"b {n}", label=label) for n, label in enumerate(labels)]
    (folder / name / f"{split}.tsv").write_text("\n".join([*([header] if header else []), *lines]))


def prepared(folder: Path, task: str) -> None:
    keys = {"source__name": "glue", "source__task": task, "source__annotations": str(folder)}
    prepare_data.run(config_of(prepare_data, **keys), context(folder / "work", task))


def scored(folder: Path, task: str, said: Any, name: str | None = None, **keys: Any) -> dict[str, Any]:
    file = folder / "said.tsv"
    file.write_text("\n".join(["index\tprediction", *(f"{n}\t{one}" for n, one in enumerate(said))]))
    found = config_of(evaluate, bench__name="glue", predictions=str(file), data=task, **keys)
    return evaluate.run(found, context(folder / "work", name))


@pytest.mark.parametrize("task", ["cola", "mrpc", "rte", "stsb"])
def test_official_metrics(tmp_path: Path, task: str) -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(0, 2, ROWS)
    said = np.where(rng.random(ROWS) < 0.3, 1 - true, true)
    expected = {
        "accuracy": metrics.accuracy_score(true, said), "f1": metrics.f1_score(true, said),
        "matthews": metrics.matthews_corrcoef(true, said),
    }  # fmt: skip
    names, labels, predicted = ("entailment", "not_entailment"), true.tolist(), said.tolist()
    if task == "rte":
        labels, predicted = [names[one] for one in true], [names[one] for one in said]
    if task == "stsb":
        labels = np.round(rng.random(ROWS) * 5, 1).tolist()
        predicted = np.round(np.array(labels) + rng.normal(0, 1, ROWS), 2).tolist()
        expected = {"pearson": stats.pearsonr(labels, predicted)[0], "spearman": stats.spearmanr(labels, predicted)[0]}
    made(tmp_path, task, "dev", labels)
    prepared(tmp_path, task)
    found = scored(tmp_path, task, predicted)
    wanted = {"cola": ["matthews"], "mrpc": ["accuracy", "f1"], "rte": ["accuracy"], "stsb": ["pearson", "spearman"]}
    assert found["metrics"] == pytest.approx({name: 100 * expected[name] for name in wanted[task]}, rel=1e-5)
    assert found["counts"] == {"items": ROWS, "skipped": 0} and found["split"] == "val"
    assert found["model"]["kind"] == "predictions" and set(found["fingerprints"]) == {"data", "predictions"}
    with pytest.raises(UserError, match="no text has a label"):
        scored(tmp_path, task, predicted[:2], split="test")


def test_both_halves_of_mnli(tmp_path: Path) -> None:
    made(tmp_path, "mnli", "dev_matched", ["neutral", "entailment", "neutral", "contradiction"])
    made(tmp_path, "mnli", "dev_mismatched", ["contradiction"] * 4)
    prepared(tmp_path, "mnli")
    said = ["neutral", "entailment", "contradiction", "contradiction"]
    assert scored(tmp_path, "mnli", said)["metrics"] == {"accuracy": 75}
    other = scored(tmp_path, "mnli", said, split="val_mismatched")
    assert other["metrics"] == {"accuracy": 50} and other["split"] == "val_mismatched"


def test_before_and_after(tmp_path: Path) -> None:
    """CoLA, too, whose own metric is over all items: its answers are compared as right or wrong."""
    made(tmp_path, "cola", "dev", [0, 1] * 10)
    prepared(tmp_path, "cola")
    scored(tmp_path, "cola", [0, 1] * 10, "before")
    after = scored(tmp_path, "cola", [1, 0, *[0, 1] * 9], against="before")["against"]
    assert after["metrics"].keys() == {"accuracy"} and after["metrics"]["accuracy"]["difference"] == pytest.approx(-10)
    assert [one["id"] for one in after["changed"]] == ["0", "1"] and after["metrics"]["accuracy"]["lost"] == 2


def test_real_paraphrases_from_the_command_line(real_data: Path, mmkd: Run, tmp_path: Path) -> None:
    """Who says that all of MRPC's development set are paraphrases has 68.4 and 81.2."""
    mmkd("prepare-data", "--source", "glue", "--set", "source.task=mrpc", "--annotations", real_data / "glue",
         "--name", "mrpc")  # fmt: skip
    lines = ["index\tprediction", *(f"{n}\t1" for n in range(408))]
    (tmp_path / "MRPC.tsv").write_text("\n".join(lines))
    flags = ("evaluate", "--bench", "glue", "--predictions", tmp_path / "MRPC.tsv")
    assert json.loads(mmkd(*flags, "--data", "mrpc", "--dry-run", "--json").stdout)["rows"] == 408
    found = json.loads(mmkd(*flags, "--data", "mrpc", "--json").stdout)
    assert {name: round(value, 1) for name, value in found["metrics"].items()} == {"accuracy": 68.4, "f1": 81.2}
    assert "give labelled texts by --data, and --model or --predictions" in mmkd(*flags, code=2).stderr
