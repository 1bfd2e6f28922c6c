"""GLUE's scores against scikit-learn's and scipy's, labels by name, what has no label, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from sklearn import metrics

from mmkd_cli.benches.glue import Glue, GlueConfig
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.reports.page import render
from tests.benches.labelled_texts import LabelledTexts, Told
from tests.benches.small_data import SmallArtifact
from tests.stages.finetune_chain import make_labelled, tuned

TRUE, SAID = [0, 1, 1, 0, 1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 1, 1, 1, 0, 0]
NAMES = ["not_equivalent", "equivalent"]


def scored(data: LabelledTexts, model: Told, metrics_only: bool = False, **keys: Any) -> Scores:
    given = BenchInput(model=model, data=data, split="val", batch_size=4, metrics_only=metrics_only)  # type: ignore[arg-type]
    return Glue(GlueConfig(**keys)).run(given)


@pytest.mark.parametrize("task", ["mrpc", "cola", "rte"])
def test_classes_are_scored_as_the_task_says(task: str) -> None:
    model = Told(NAMES, SAID)
    found = scored(LabelledTexts(TRUE, NAMES), model, task=task)
    slow = {"accuracy": metrics.accuracy_score(TRUE, SAID), "f1": metrics.f1_score(TRUE, SAID),
            "matthews": metrics.matthews_corrcoef(TRUE, SAID)}  # fmt: skip
    wanted = {"mrpc": ("accuracy", "f1"), "cola": ("matthews",), "rte": ("accuracy",)}[task]
    assert found.metrics == pytest.approx({name: 100 * slow[name] for name in wanted})
    assert model.seen == [4, 4, 2] and found.counts == {"items": 10, "skipped": 0}
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics[name] <= high and low < high
    lines = [*found.items]
    assert [line["right"]["accuracy"] for line in lines] == [a == b for a, b in zip(TRUE, SAID, strict=True)]
    assert lines[2] == {"id": "2", "text": "text 2", "label": "equivalent", "said": "not_equivalent",
                        "right": {"accuracy": False}}  # fmt: skip
    assert "text 2" in render("glue", found.page)


def test_numbers_are_scored_by_their_correlations() -> None:
    true, said = [0.5, 4.0, 2.2, 5.0, -1, 3.3], [1.0, 3.0, 2.0, 4.5, 9.0, 2.5]
    data = LabelledTexts(true, None, bad=(4,), artifact=SmallArtifact("glue"))
    found = scored(data, Told(None, said))
    kept = [0, 1, 2, 3, 5]
    a, b = [true[i] for i in kept], [said[i] for i in kept]
    assert found.metrics == pytest.approx(
        {"pearson": 100 * stats.pearsonr(a, b)[0], "spearman": 100 * stats.spearmanr(a, b)[0]}, rel=1e-5
    )
    assert found.counts == {"items": 5, "skipped": 1} and "right" not in next(iter(found.items))


def test_the_data_say_which_task_they_are_of() -> None:
    class Artifact(SmallArtifact):
        @property
        def plan(self) -> dict[str, Any]:
            return {"config": {"source": {"name": "glue", "task": "cola"}}}

    own = LabelledTexts(TRUE, NAMES, artifact=Artifact())
    assert scored(own, Told(NAMES, SAID)).metrics.keys() == {"matthews"}
    assert scored(LabelledTexts(TRUE, NAMES), Told(NAMES, SAID)).metrics.keys() == {"accuracy"}
    with pytest.raises(UserError, match="task 'stsb' is of numbers, the labels are not"):
        scored(own, Told(NAMES, SAID), task="stsb")


def test_labels_are_met_by_name_and_pairs_are_read_as_pairs() -> None:
    """A model whose classes stand in another order; one that names none is taken at their places."""
    turned = [1 - one for one in SAID]
    plain = scored(LabelledTexts(TRUE, NAMES), Told(NAMES, SAID)).metrics
    assert scored(LabelledTexts(TRUE, NAMES, second=True), Told(NAMES[::-1], turned)).metrics == plain
    assert scored(LabelledTexts(TRUE, NAMES), Told(["LABEL_0", "LABEL_1"], SAID)).metrics == plain
    with pytest.raises(UserError, match="labels are not_equivalent, equivalent, the model says no, yes"):
        scored(LabelledTexts(TRUE, NAMES), Told(["no", "yes"], SAID))
    with pytest.raises(UserError, match="the model says numbers"):
        scored(LabelledTexts(TRUE, NAMES), Told(None, SAID))
    with pytest.raises(UserError, match="labels are numbers, the model tells classes apart"):
        scored(LabelledTexts([1.0, 2.0], None), Told(NAMES, SAID))


def test_texts_without_labels_are_skipped() -> None:
    data = LabelledTexts([0, -1, 1, -1], NAMES, bad=(0,))
    found = scored(data, Told(NAMES, [0, 0, 1, 0]))
    assert found.counts == {"items": 1, "skipped": 3} and found.metrics["accuracy"] == 100
    with pytest.raises(UserError, match="no text has a label"):
        scored(LabelledTexts([-1, -1], NAMES), Told(NAMES, [0, 0]))


def test_a_tuned_run_and_its_folder_score_alike(tmp_path: Path, mmkd: Any) -> None:
    root = make_labelled(tmp_path)
    tuned(
        root, "text-classification", "tuned", model=f"hf:{tmp_path / 'bart'}", data="labelled", student__max_tokens=64
    )
    flags = ["--bench", "glue", "--data", "labelled", "--split", "val", "--root", root, "--json"]
    own = json.loads(mmkd("evaluate", "--model", "tuned", *flags).stdout)
    folder = json.loads(mmkd("evaluate", "--model", f"hf:{root / 'runs/tuned/model'}", *flags).stdout)
    assert own["metrics"] == folder["metrics"] and own["counts"] == {"items": 10, "skipped": 0}
    assert own["zero_shot"]["value"] is False and folder["model"]["kind"] == "hf"
    said = mmkd("evaluate", "--bench", "retrieval", "--model", "tuned", *flags[2:], code=2).stderr
    assert "model 'tuned' embeds no pictures and texts" in said
