"""examples/vlkd/plm-kl.sh: each of its commands resolves; its Python parts do what they say, on a few pictures."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from typer.testing import CliRunner

from mmkd_cli.cli.app import app
from mmkd_cli.data.prepared import open_data
from mmkd_cli.stages import cache_teacher, distill, evaluate, prepare_data
from mmkd_cli.students.clip import Clip, ClipConfig
from tests.stages.small_chain import config_of, context, draw

FOLDER = Path(__file__).parents[2] / "examples" / "vlkd"


def test_the_arms_differ_by_their_method_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an `mmkd` that only notes its words."""
    (tmp_path / "bin").mkdir()
    for name, body in {"mmkd": f"printf '%s\\n' \"$@\" END >> '{tmp_path}/words'", "python": ":"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    given = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "MMKD_ROOT": str(tmp_path / "root"),
             "MMKD_TEST_DATA": "/data", "SEEDS": "0 1"}  # fmt: skip
    subprocess.run(["sh", str(FOLDER / "plm-kl.sh")], env=given, check=True, capture_output=True)
    noted = (tmp_path / "words").read_text()
    monkeypatch.chdir(FOLDER)
    runs = {}
    for words in (part.strip("\n").split("\n") for part in noted.split("END\n") if part):
        done = CliRunner().invoke(app, [*words, "--print-config"])
        assert done.exit_code == 0, (words, done.exception, done.output)
        if words[0] == "distill":
            runs[words[words.index("--name") + 1]] = tomllib.loads(done.stdout)
    arms = ("control", "causal", "masked", "causal-heavy")
    assert set(runs) == {"clip", *(f"{arm}-s{seed}" for arm in arms for seed in (0, 1))}
    for seed in (0, 1):
        control = runs[f"control-s{seed}"]
        for arm in arms:
            run = runs[f"{arm}-s{seed}"]
            assert {**run["train"], "epochs": 0} == {**control["train"], "epochs": 0}  # max_steps is what counts
            assert run["train"]["max_steps"] == 150 and run["train"]["seed"] == seed
            assert run["student"] == control["student"]
            shared = (run["method"].keys() & control["method"].keys()) - {"name"}
            assert {"tune", "contrastive_weight", "captions"} < shared
            assert all(run["method"][key] == control["method"][key] for key in shared)
        assert (
            runs[f"causal-heavy-s{seed}"]["method"]["scale"] == 1 and runs[f"causal-s{seed}"]["method"]["scale"] == 0.01
        )


def run(script: str, monkeypatch: pytest.MonkeyPatch, *words: Any) -> None:
    """A script's `main` with these words."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    spec = importlib.util.spec_from_file_location(f"examples_vlkd_{script}", FOLDER / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With data `squares`."""
    draw(tmp_path / "squares", 20)
    keys = {"source__name": "flickr8k", "source__images": str(tmp_path / "squares"),
            "source__annotations": str(tmp_path / "squares" / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(tmp_path / "work", "squares"))
    monkeypatch.setenv("MMKD_ROOT", str(tmp_path / "work"))
    return tmp_path / "work"


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_language_model_teaches_a_clip(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the two scripts that make models to the KL before and after, against transformers on one text alone."""
    lm = root / "lm"
    short = ["--batch-size", 8, "--epochs", 2]
    run("caption_lm", monkeypatch, "--kind", kind, "--data", "squares", "--out", lm, *short)
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 8 and said["val, nats a token"] > 0
    run("caption_lm", monkeypatch, "--kind", kind, "--data", "squares", "--out", lm, *short)
    assert "is there" in capsys.readouterr().out

    import timm

    torch.manual_seed(0)
    trunk = {name: value.half() for name, value in timm.create_model("tf_efficientnet_lite0").state_dict().items()}
    save_file(trunk, root / "cnn.safetensors")
    run("small_clip", monkeypatch, "--weights", root / "cnn.safetensors", "--out", root / "clip", "--size", 32)
    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{root / 'clip'}")
    torch.testing.assert_close(clip.visual.trunk.conv_stem.weight.half(), trunk["conv_stem.weight"])

    keys = {"data": "squares", "teacher__name": "lm", "teacher__weights": str(lm), "teacher__max_tokens": 32,
            "cache__threads": 1}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(root, "lm-cache"))
    keys = {"method__name": "plm-kl", "method__scale": 1.0, "student__arch": f"local-dir:{root / 'clip'}",
            "data": ["squares:lm-cache"], "train__batch_size": 8, "train__max_steps": 6, "train__peak_lr": 1e-3,
            "train__validation": False}  # fmt: skip
    distill.run(config_of(distill, **keys), context(root, f"{kind}-s0"))

    found = []
    for model in (root / "clip", root / f"runs/{kind}-s0"):
        capsys.readouterr()
        run("token_kl", monkeypatch, "--data", "squares", "--teacher", lm, "--model", model, "--texts", 3)
        found.append(json.loads(capsys.readouterr().out))
    before, after = found
    (root / "token-kl").mkdir()
    (root / f"token-kl/{kind}-{kind}-s0.json").write_text(json.dumps(after))
    keys = {"bench__name": "retrieval", "model": f"{kind}-s0", "split": "val"}
    scores = evaluate.run(config_of(evaluate, **keys), context(root, f"{kind}-s0-test"))
    capsys.readouterr()
    run("plm_kl_table", monkeypatch)
    head, _, row = capsys.readouterr().out.splitlines()
    assert len(head.split("|")) == len(row.split("|")) and f"| {kind} teacher | 1 |" in row
    assert f" {after['kl']:.3f} (" in row and f" {scores['metrics']['mean_recall']:.1f} (" in row

    assert after["kl"] < before["kl"] and before["interval"][0] <= before["kl"] <= before["interval"][1]

    kinds = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM}
    teacher, tokenizer = kinds[kind].from_pretrained(lm).eval(), AutoTokenizer.from_pretrained(lm)
    assert teacher.config.vocab_size == len(tokenizer)
    if kind == "masked":  # its places are drawn
        return
    student = Clip.build(ClipConfig(arch=f"local-dir:{root / 'clip'}")).eval()
    student.read_tokens(tokenizer, len(tokenizer), causal=True)
    total = 0.0
    with torch.no_grad():
        for text in open_data(root, "squares").table("texts", "val")["text"][:3]:
            ids = tokenizer([text], return_tensors="pt")["input_ids"]
            places = torch.ones_like(ids, dtype=torch.bool)
            places[0, -1] = False
            q = student.token_logits(ids, torch.ones_like(ids), places).log_softmax(1)
            total += float(F.kl_div(q, teacher(ids).logits[0, :-1].log_softmax(1), log_target=True, reduction="sum"))
    assert before["kl"] == pytest.approx(total / before["tokens"], rel=1e-4)
