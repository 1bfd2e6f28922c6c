"""`finetune --task retrieval` from multimodal runs to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import distill, evaluate
from tests.stages.broken_off import broken_off
from tests.stages.finetune_chain import tuned
from tests.stages.small_chain import config_of, context, make_squares
from tests.students import small_students

SIZES = {"student__width": small_students.WIDTH, "student__heads": small_students.HEADS, "student__image_size": 32,
         "student__depth": 2, "student__max_tokens": 16}  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `y4` of s-smke and `mm` of mm-d2v2, trained by the contrastive loss alone, on drawn squares."""
    folder = tmp_path_factory.mktemp("chain")
    root = make_squares(folder, ("squares",))
    image, text, *_ = small_students.d2v2_files(folder / "weights")
    bert = small_students.bert_folder(folder / "bert")
    method = {"method__name": "cls-regression", "method__regression_weight": 0.0, "method__contrastive_weight": 1.0}
    train = {"train__max_steps": 2, "train__batch_size": 8, "student__image_weights": str(image)}
    for name, keys in {
        "y4": {"student__name": "s-smke", "student__text_weights": str(bert)},
        "mm": {"student__name": "mm-d2v2", "student__text_weights": str(text), "student__embeddings": "trained",
               "student__vocabulary": small_students.BPE_TOKENS},
    }.items():  # fmt: skip
        distill.run(config_of(distill, data="squares", **method, **train, **SIZES, **keys), context(root, name))
    return folder


def found(root: Path, model: str, **keys: Any) -> dict[str, Any]:
    asked = {"bench__name": "retrieval", "model": model, "data": "squares", "split": "val", **keys}
    return evaluate.run(config_of(evaluate, **asked), context(root))


def steps(root: Path, name: str) -> list[dict[str, Any]]:
    lines = (root / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.parametrize(("model", "student"), [("y4", "s-smke"), ("mm", "mm-d2v2")])
def test_a_run_is_tuned_and_found_by(chain: Path, model: str, student: str) -> None:
    """The student is the run's own, though the task's usual one is another."""
    root, name = chain / "work", f"{model}-tuned"
    document = tuned(root, "retrieval", name, model=model, data="squares", train__max_steps=20)
    run = artifacts.open_artifact(root, name, "run")
    assert run.plan["config"]["student"]["name"] == student and document["rows"] == 64
    assert run.plan["config"]["student"]["image_weights"] is None  # its beginning is the run
    assert [(i.role, i.name) for i in run.inputs] == [("model", model), ("data", "squares")]
    lines = steps(root, name)
    assert lines[0].keys() >= {"contrastive", "positive_cosine"} and not any("regression" in x for x in lines[0])
    assert sum(x["loss"] for x in lines[-4:]) < sum(x["loss"] for x in lines[:4])
    before, after = (load_file(root / "runs" / one / "model/model.safetensors") for one in (model, name))
    assert before.keys() == after.keys() and any(not torch.equal(before[n], after[n]) for n in before)
    said = found(root, name)
    assert said["zero_shot"]["value"] is False and 0 <= said["metrics"]["mean_recall"] <= 100
    again = tuned(root, "retrieval", name, model=model, data="squares", train__max_steps=20)
    assert again["status"] == "already done"


def test_broken_off_it_goes_on_to_the_same_bytes(chain: Path) -> None:
    root = chain / "work"
    keys = {"model": "y4", "data": "squares", "train__max_steps": 6, "train__checkpoint_every": 2,
            "train__micro_batch_size": 3}  # fmt: skip
    tuned(root, "retrieval", "whole", **keys)
    broken_off(lambda: tuned(root, "retrieval", "broken", **keys), after=3)
    whole, broken = (artifacts.open_artifact(root, name, "run") for name in ("whole", "broken"))
    assert whole.fingerprint == broken.fingerprint
    assert (whole.path / "metrics.jsonl").read_bytes() == (broken.path / "metrics.jsonl").read_bytes()


def test_encoders_begin_it_without_a_run(chain: Path) -> None:
    keys = {"student__name": "s-smke", "student__text_weights": str(chain / "bert"),
            "student__image_weights": str(chain / "weights/image.pt"), **SIZES}  # fmt: skip
    document = tuned(chain / "work", "retrieval", "pair", data="squares", **keys)
    assert document["steps"] == 6
    run = artifacts.open_artifact(chain / "work", "pair", "run")
    assert [i.role for i in run.inputs] == ["data"]
    assert run.plan["identity"]["files"].keys() == {"student.image_weights", "student.text_weights"}
    assert 0 <= found(chain / "work", "pair")["metrics"]["mean_recall"] <= 100


def test_what_it_can_not_start_from(chain: Path) -> None:
    root = chain / "work"
    with pytest.raises(UserError, match=r"student.text_weights and --model y4 both say where training starts"):
        tuned(root, "retrieval", "x", model="y4", data="squares", student__text_weights="y")
    with pytest.raises(Refused, match=r"run 'mm' is a 'mm-d2v2', the task 'retrieval' starts from s-smke"):
        tuned(root, "retrieval", "x", model="mm", data="squares", student__name="s-smke", student__dropout=0.1)
    with pytest.raises(UserError, match="--model"):  # there are two that fit
        tuned(root, "retrieval", "x", data="squares")


def test_the_command_line(chain: Path, mmkd: Any) -> None:
    root = ["--root", chain / "work"]
    said = json.loads(mmkd("finetune", "--task", "retrieval", "--preset", "z", "--model", "mm", "--data", "squares",
                           "--batch-size", 8, "--set", "train.max_steps=2", "--name", "by-words", *root,
                           "--json").stdout)  # fmt: skip
    assert said["steps"] == 2 and "contrastive" in said["last"]
    scored = json.loads(mmkd("evaluate", "--bench", "flickr8k-retrieval", "--model", "by-words", "--split", "val",
                             *root, "--json").stdout)  # fmt: skip
    assert scored["counts"]["items"] > 0
