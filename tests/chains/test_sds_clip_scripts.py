"""Scripts of examples/sds-clip, run with an `mmkd` that only notes its words: each command must then resolve."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmkd_cli.cli.app import app

FOLDER = Path(__file__).parents[2] / "examples" / "sds-clip"
PLACES = ("COCO", "STABLE_DIFFUSION", "WINOGROUND", "ARO", "SUGARCREPE", "VAL2017", "CIFAR")
KEYS = ("jacobian", "noise_input", "reduction", "lambda", "projection_warmup_steps", "projection_warmup", "normalize")


def commands(tmp_path: Path, script: str, **given: str) -> tuple[int, list[list[str]]]:
    """The script's exit code, and the words of each `mmkd` that it ran; its Python files are left out."""
    (tmp_path / "bin").mkdir()
    for name, body in {"mmkd": f"printf '%s\\n' \"$@\" END >> '{tmp_path}/words'", "python": ""}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(FOLDER / script)],
        env={"PATH": path, "MMKD_ROOT": str(tmp_path / "root"), **given},
        capture_output=True,
        check=False,
    )
    noted = (tmp_path / "words").read_text() if (tmp_path / "words").exists() else ""
    return done.returncode, [part.strip("\n").split("\n") for part in noted.split("END\n") if part]


def effective(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `mmkd WORDS --print-config` prints."""
    monkeypatch.chdir(FOLDER)
    done = CliRunner().invoke(app, [*words, "--print-config"])
    assert done.exit_code == 0, (words, done.exception, done.output)
    return tomllib.loads(done.stdout)


def named(ran: list[list[str]], stage: str) -> dict[str, list[str]]:
    return {words[words.index("--name") + 1]: words for words in ran if words[0] == stage}


def test_the_arms_of_the_claim_differ_by_the_method_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, "claim.sh", SEEDS="0 1")
    assert code == 0
    runs = {name: effective(words, monkeypatch) for name, words in named(ran, "distill").items()}
    assert set(runs) == {f"{arm}-s{seed}" for arm in ("contrastive", "sds") for seed in (0, 1)}
    for seed in (0, 1):
        control, arm = runs[f"contrastive-s{seed}"], runs[f"sds-s{seed}"]
        assert control["train"] == arm["train"] and control["train"]["seed"] == seed
        assert control["student"] == arm["student"] and control["data"] == arm["data"]
        assert {name: value for name, value in arm["method"].items() if name in control["method"]} == {
            **control["method"], "name": "sds",
        }  # fmt: skip
        assert arm["method"]["lambda"] == 0.001

    scored = named(ran, "evaluate")
    parts = ("seen", "held-out", "shape", "colour", "retrieval")
    assert {f"{model}-{part}" for model in ("zero-shot", *runs) for part in parts} < set(scored)
    for words in scored.values():
        effective(words, monkeypatch)


def test_an_ablation_changes_one_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, "ablations.sh")
    assert code == 0
    found = named(ran, "distill")
    runs = {
        name.removeprefix("ablation-"): effective(words, monkeypatch)["method"]
        for name, words in found.items()
        if name.startswith("ablation-")
    }
    full = runs.pop("full")
    changed = {name: [key for key in KEYS if method[key] != full[key]] for name, method in runs.items()}
    assert all(len(keys) == 1 for keys in changed.values())
    assert {keys[0] for keys in changed.values()} == set(KEYS)
    assert len({method["lambda"] for method in [full, *runs.values()]}) == 4


@pytest.mark.parametrize("variant", ["vit-b-16", "vit-b-32", "vit-l-14", "rn50"])
def test_the_full_size_chain_resolves(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: f"/{name.lower()}" for name in PLACES}
    code, ran = commands(tmp_path, "chain.sh", CONFIG=variant, **given)
    assert code == 0
    runs = {name: effective(words, monkeypatch) for name, words in named(ran, "distill").items()}
    arm, control = runs[f"sds-{variant}"], runs[f"contrastive-{variant}"]
    assert arm["train"] == control["train"] and arm["student"] == control["student"]
    configured = tomllib.loads((FOLDER / f"{variant}.toml").read_text())
    assert arm["student"]["arch"] == configured["student"]["arch"]
    assert arm["live"] and arm["teacher"]["weights"] == "/stable_diffusion" and arm["method"]["embedding"] == "cls"
    assert (arm["train"]["batch_size"], arm["train"]["epochs"], arm["method"]["lambda"]) == (32, 5, 0.001)
    for words in named(ran, "evaluate").values():
        effective(words, monkeypatch)


@pytest.mark.parametrize(("variant", "unset"), [("vit-b-16", "COCO"), ("vit-h-14", "")])
def test_the_chain_says_what_is_missing_before_it_starts(variant: str, unset: str, tmp_path: Path) -> None:
    given = {name: f"/{name.lower()}" for name in PLACES if name != unset}
    code, ran = commands(tmp_path, "chain.sh", CONFIG=variant, **given)
    assert code == 2 and not ran
