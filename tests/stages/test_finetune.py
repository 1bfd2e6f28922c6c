"""`finetune` from data and a model to a run: what it starts from, what the run says of it, and what it is used for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from mmkd_cli.core import artifacts, lineage
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import generate
from tests.architectures.tiny_bart import tiny_bart, tiny_gpt2
from tests.stages.finetune_chain import make_articles, tuned
from tests.stages.small_chain import config_of, context


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chain with the run `first`; tests copy what they change."""
    folder = tmp_path_factory.mktemp("finetune")
    root = make_articles(folder)
    tuned(root, "summarization", "first", model=f"hf:{folder / 'bart'}", task__template="sum: {text}")
    return folder


@pytest.fixture
def folder(chain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chain, tmp_path / "chain"))


def lines(root: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "runs" / name / "metrics.jsonl").read_text().splitlines()]


def test_the_run_is_transformers_own_folder(chain: Path) -> None:
    run = artifacts.open_artifact(chain / "work", "first", "run")
    assert run.check() == {} and not (run.path / "heads.safetensors").exists()
    model, report = AutoModelForSeq2SeqLM.from_pretrained(run.path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and model.config.model_type == "bart"
    assert AutoTokenizer.from_pretrained(run.path / "model")("a").input_ids[-1] == 2
    before, after = (load_file(place / "model.safetensors") for place in (chain / "bart", run.path / "model"))
    assert before.keys() == after.keys()
    assert not torch.equal(before["model.shared.weight"], after["model.shared.weight"])
    assert {"val/cross_entropy", "val/nll"} <= next(x for x in lines(chain / "work", "first") if "val/loss" in x).keys()


def test_a_run_goes_on_from_a_run_and_its_chain_says_so(folder: Path) -> None:
    root = folder / "work"
    second = tuned(root, "summarization", "second", model="first", data="articles", train__max_steps=2)
    run = artifacts.read(root / "runs/second")
    assert [(i.role, i.name) for i in run.inputs] == [("model", "first"), ("data", "articles")]
    assert run.plan["identity"]["files"] == {}
    assert [needed.name for needed, _ in lineage.ancestors(root, run)] == ["articles", "first"]
    again = tuned(root, "summarization", "second", model="runs/first", data="articles", train__max_steps=2)
    assert again["status"] == "already done" and again["fingerprint"] == second["fingerprint"]
    with pytest.raises(Refused, match=r"run 'first' is needed by run 'second'"):
        lineage.remove(root, artifacts.read(root / "runs/first"), force=False)
    shutil.copytree(folder / "bart", folder / "other")
    tiny_bart(folder / "other", seed=5)
    tuned(root, "summarization", "other", model=f"hf:{folder / 'other'}", data="articles", train__max_steps=2)
    with pytest.raises(Refused, match=r"run 'second' was made by another command: inputs.model was"):
        tuned(root, "summarization", "second", model="other", data="articles", train__max_steps=2)


def test_the_command_line_and_its_chain(folder: Path, mmkd: Any) -> None:
    flags = ["--root", folder / "work", "--set", "train.max_steps=2", "--batch-size", 8]
    said = json.loads(mmkd("finetune", "--task", "summarization", "--model", f"hf:{folder / 'bart'}", "--name", "a",
                           *flags, "--json").stdout)  # fmt: skip
    assert said["kind"] == "run" and said["steps"] == 2
    mmkd("finetune", "--task", "summarization", "--model", "a", "--data", "articles", "--name", "b", *flags)
    commands = mmkd("show", "b", "--chain", "--root", folder / "work").stdout.splitlines()
    assert commands[1].startswith(f"mmkd finetune --task summarization --model hf:{folder / 'bart'} --name a")
    assert commands[1].endswith("--data articles") and "--model a --data articles --name b" in commands[2]
    dry = json.loads(mmkd("finetune", "--task", "summarization", "--model", "a", "--data", "articles", *flags,
                          "--dry-run", "--json").stdout)  # fmt: skip
    assert dry["status"] == "dry run" and dry["rows"] == 40 and dry["steps"] == 2 and dry["name"].startswith("summ")
    config = folder / "work/runs/b/config.toml"
    assert "is already done" in mmkd("finetune", "--config", config, "--data", "articles", "--name", "b", "--root",
                                     folder / "work").stderr  # fmt: skip


def test_generate_asks_as_the_run_was_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wrote(name: str, **keys: Any) -> list[str]:
        given = {"task__name": "text", "model": "first", "split": "val", "generation__max_new_tokens": 6, **keys}
        generate.run(config_of(generate, **given), context(folder / "work", name))
        rows = (folder / "work/results" / name / "predictions.jsonl").read_text().splitlines()
        return [json.loads(row)["raw"] for row in rows]

    own = wrote("own")
    assert "task.template: 'sum: {text}', as run first was trained" in capsys.readouterr().err
    assert own == wrote("said", task__template="sum: {text}")
    wrote("plain", task__template="{text}")
    asked = [artifacts.read(folder / "work/results" / name).plan for name in ("own", "said", "plain")]
    assert [plan["config"]["task"]["template"] for plan in asked] == ["sum: {text}", "sum: {text}", "{text}"]
    assert asked[0]["request"] == asked[1]["request"] != asked[2]["request"]
    with pytest.raises(UserError, match=r"run 'first' sees no pictures: name a run of vlkd"):
        wrote("none", task__name="caption")


def test_what_a_task_can_not_start_from(folder: Path) -> None:
    root, bart = folder / "work", f"hf:{folder / 'bart'}"

    def fails(error: type[Exception], said: str, **keys: Any) -> None:
        with pytest.raises(error, match=said):
            tuned(root, "summarization", "x", **{"data": "articles", **keys})
        assert not (root / "runs/x").exists()

    fails(UserError, r"model 'open_clip:RN50': the task 'summarization' does not start from it", model="open_clip:RN50")
    fails(UserError, "run 'frist' is not in .*did you mean 'first'", model="frist")
    fails(UserError, "'articles' is data, not a run", model="articles")
    fails(UserError, "--model is needed", model=None)
    fails(UserError, "does not train student 'clip'", student__name="clip")
    fails(UserError, "both say where training starts", model="first", student__weights="y")
    fails(UserError, "no column 'summry' in 'train'", model=bart, task__summary_column="summry")
    fails(UserError, r"task.max_source_tokens 97 is more than the model's 96", model=bart, task__max_source_tokens=97)
    tiny_gpt2(folder / "gpt2")
    fails(UserError, "is a 'gpt2', not a model of encoder and decoder", model=f"hf:{folder / 'gpt2'}")
    plan = root / "runs/first/plan.json"
    for file in (plan, plan.with_name("manifest.json")):
        document = json.loads(file.read_text())
        document["config"]["student"]["name"] = "unimodal"
        file.write_text(json.dumps(document))
    fails(Refused, r"run 'first' is a 'unimodal', the task 'summarization' starts from seq2seq or bart", model="first")


def test_a_damaged_run_is_refused_with_its_file(folder: Path) -> None:
    weights = folder / "work/runs/first/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(Refused, match=r"run 'first' is damaged: model/model.safetensors"):
        tuned(folder / "work", "summarization", "x", model="first", data="articles")


def test_two_processes_have_the_losses_of_one(folder: Path) -> None:
    """Summaries of several lengths, so that the processes have unlike numbers of tokens; without dropout."""
    keys = {"data": "articles", "student.dropout": 0.0, "train.batch_size": 7, "train.max_steps": 8,
            "train.peak_lr": 0.003}  # fmt: skip
    flags = [word for name, value in keys.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmkd_cli",
         "finetune", "--task", "summarization", "--model", "first", "--name", "two", "--root", folder / "work",
         "--device", "cpu", *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = {name.replace(".", "__"): value for name, value in keys.items()}
    tuned(folder / "work", "summarization", "one", model="first", **{**own, "train__warmup_steps": None})
    one, two = lines(folder / "work", "one"), lines(folder / "work", "two")
    assert len([line for line in one if "loss" in line]) == 8 and any("val/nll" in line for line in one)
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-5, abs=1e-6)
