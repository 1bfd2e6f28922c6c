"""Scripts of examples/vlkd: at full size every command resolves; the claim on scenes runs in a tiny form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmkd_cli.cli.app import app
from tests.warm import Warm

FOLDER = Path(__file__).parents[2] / "examples" / "vlkd"
PLACES = ("COCO", "VQAV2", "OKVQA", "NOCAPS", "XSUM", "CNN_DAILYMAIL", "GLUE", "BART")
SUMMARY_PLACES = ("COCO", "VQAV2", "BOOKS", "GPT2")
WEIGHTS = ("ttdm_weight", "itcl_weight", "icti_weight")


def commands(tmp_path: Path, script: str, **given: str) -> tuple[int, list[list[str]]]:
    """The script's exit code, and the words of each `mmkd` that it ran, in some order; its Python files are left out.

    A file a command, named by the process that notes it: runs side by side would write into each other's lines.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "words").mkdir()
    for name, body in {"mmkd": f"printf '%s\\n' \"$@\" > '{tmp_path}/words/'$$", "python": ":"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(FOLDER / script)], env={"PATH": path, "MMKD_ROOT": str(tmp_path / "root"), **given},
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, [file.read_text().rstrip("\n").split("\n") for file in (tmp_path / "words").iterdir()]


def effective(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `mmkd WORDS --print-config` prints."""
    monkeypatch.chdir(FOLDER)
    done = CliRunner().invoke(app, [*words, "--print-config"])
    assert done.exit_code == 0, (words, done.exception, done.output)
    return tomllib.loads(done.stdout)


def named(ran: list[list[str]], stage: str) -> dict[str, list[str]]:
    return {words[words.index("--name") + 1]: words for words in ran if words[0] == stage}


@pytest.mark.parametrize(("variant", "arch"), [("vit-b-16", "ViT-B-16-quickgelu"), ("vit-l-14", "ViT-L-14-quickgelu")])
def test_the_full_size_chain_resolves(variant: str, arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, "chain.sh", CONFIG=variant, **{name: f"/{name.lower()}" for name in PLACES})
    assert code == 0
    found = {name: effective(words, monkeypatch) for name, words in named(ran, "distill").items()}
    (run,) = found.values()
    assert run["student"]["weights"] == "/bart" and run["method"]["name"] == "vlkd"
    assert [run["method"][name] for name in WEIGHTS] == [1.0, 1.0, 1.0]
    assert (run["train"]["batch_size"], run["train"]["epochs"]) == (1024, 10)
    caches = {name: effective(words, monkeypatch) for name, words in named(ran, "cache-teacher").items()}
    assert {one["teacher"]["arch"] for one in caches.values()} == {arch}
    for stage in ("prepare-data", "finetune", "generate"):
        for words in named(ran, stage).values():
            effective(words, monkeypatch)
    scored = {name: effective(words, monkeypatch) for name, words in named(ran, "evaluate").items()}
    kept = {name.removeprefix("bart-") for name in scored if name.startswith("bart-")}
    assert {"xsum-scores", "cnn-dailymail-scores", "mnli-val-scores", "mnli-val_mismatched-scores"} < kept
    for name in kept:
        after = scored[f"vlkd-{variant}-{name}"]
        assert after["bench"] == scored[f"bart-{name}"]["bench"] and after["split"] == scored[f"bart-{name}"]["split"]
        compared = after["bench"]["name"] == "glue" and not name.startswith("stsb")
        assert after.get("against") == (f"bart-{name}" if compared else None)


def test_the_summary_at_full_size_resolves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, "chain-summary.sh", **{name: f"/{name.lower()}" for name in SUMMARY_PLACES})
    assert code == 0
    runs = {name: effective(words, monkeypatch) for name, words in named(ran, "distill").items()}
    teaching = runs.pop("plm-kl")
    assert teaching["method"]["temperature"] == 2 and teaching["method"]["scale"] == 0.01
    assert (teaching["student"]["arch"], teaching["student"]["weights"]) == ("RN50x4-quickgelu", "openai")
    trained = teaching["train"]
    assert (trained["optimizer"], trained["peak_lr"], trained["batch_size"], trained["epochs"]) == (
        "adam",
        1e-4,
        64,
        10,
    )
    assert {name: run["method"]["name"] for name, run in runs.items()} == {
        "before-talking": "prefix", "taught-talking": "prefix"
    }  # fmt: skip
    assert {run["student"]["weights"] for run in runs.values()} == {"/gpt2"}
    caches = {name: effective(words, monkeypatch) for name, words in named(ran, "cache-teacher").items()}
    assert caches["books-gpt2"]["teacher"]["temperature"] == 2
    assert caches["coco-taught"]["teacher"]["arch"] == f"local-dir:{tmp_path / 'root'}/runs/plm-kl/model"
    for words in named(ran, "generate").values():
        said = effective(words, monkeypatch)["generation"]
        assert (said["num_beams"], said["max_new_tokens"]) == (5, 20)
    for stage in ("prepare-data", "evaluate"):
        for words in named(ran, stage).values():
            effective(words, monkeypatch)


@pytest.mark.parametrize(
    ("script", "variant", "unset"),
    [("chain.sh", "vit-l-14", "COCO"), ("chain.sh", "rn50", ""), ("chain-summary.sh", "", "BOOKS")],
)
def test_the_chain_says_what_is_missing_before_it_starts(script: str, variant: str, unset: str, tmp_path: Path) -> None:
    given = {name: f"/{name.lower()}" for name in {*PLACES, *SUMMARY_PLACES} if name != unset}
    code, ran = commands(tmp_path, script, CONFIG=variant, **given)
    assert code == 2 and not ran


def test_the_claims_arms_differ_by_one_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, "claim-scenes.sh", SEEDS="0 1")
    assert code == 0
    runs = {name: effective(words, monkeypatch) for name, words in named(ran, "distill").items()}
    del runs["joint-space"]
    assert set(runs) == {f"{arm}-s{seed}" for arm in ("all", "no-ttdm", "no-itcl", "no-icti") for seed in (0, 1)}
    for name, config in runs.items():
        other = runs[f"all-{name[-2:]}"]
        assert config["train"] == other["train"] and config["train"]["seed"] == int(name[-1])
        assert config["student"] == other["student"] and config["data"] == other["data"]
        changed = [key for key, value in config["method"].items() if value != other["method"][key]]
        assert changed == [f"{name[3:7]}_weight"] if name.startswith("no-") else not changed
    for stage in ("generate", "evaluate"):
        for words in named(ran, stage).values():
            effective(words, monkeypatch)


def test_flickr8ks_arms_differ_by_their_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, "flickr8k.sh", MMKD_TEST_DATA="/data", SEEDS="0 1")
    assert code == 0
    runs = {name: effective(words, monkeypatch) for name, words in named(ran, "distill").items()}
    del runs["joint-space"]
    assert set(runs) == {f"{arm}-s{seed}" for arm in ("spans", "whole") for seed in (0, 1)}
    tuned = {name: effective(words, monkeypatch) for name, words in named(ran, "finetune").items()}
    for seed in (0, 1):
        spans, whole, captioner = runs[f"spans-s{seed}"], runs[f"whole-s{seed}"], tuned[f"captioner-s{seed}"]
        changed = {key for key, value in spans["method"].items() if value != whole["method"][key]}
        assert changed == {"mask_ratio", "mask_whole"}
        assert spans["train"] == whole["train"] and spans["student"] == whole["student"]
        budget = ("max_steps", "batch_size", "peak_lr", "seed", "precision")
        assert [captioner["train"][key] for key in budget] == [spans["train"][key] for key in budget]
    for stage in ("prepare-data", "cache-teacher", "generate", "evaluate"):
        for words in named(ran, stage).values():
            effective(words, monkeypatch)


def test_the_claim_runs_in_a_tiny_form(tmp_path: Path, warm: Warm) -> None:
    """One arm and few steps: all tables are there, with six pictures and their thirty questions. No Java is found."""
    warm.commands(tmp_path / "bin")
    (tmp_path / "bin" / "dirname").symlink_to(str(shutil.which("dirname")))
    environment = {
        **os.environ, "PATH": str(tmp_path / "bin"), "PYTHONPATH": str(FOLDER.parents[1]),
        "MMKD_ROOT": str(tmp_path / "root"), "SEEDS": "0", "ARMS": "all", "TRAIN": "40", "TEST": "6", "TEXTS": "20",
        "MORE": "--set train.max_steps=2",
    }  # fmt: skip
    script = [str(shutil.which("sh")), str(FOLDER / "claim-scenes.sh")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    titles = [row[0] for row in rows]
    assert titles.count("all three") == 4 and {"captions", "answers", "consensus", "pictures shuffled"} < {*titles}
    answers = (tmp_path / "root" / "results" / "all-s0-shuffled-answers" / "predictions.jsonl").read_text()
    assert len(answers.splitlines()) == 6 * 5
    texts = [tmp_path / "root" / "text" / f"{name}.json" for name in ("before", "all-s0")]
    before, after = (json.loads(file.read_text()) for file in texts)
    assert before.keys() == after.keys() and before != after
