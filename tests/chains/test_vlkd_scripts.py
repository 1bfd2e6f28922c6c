"""Scripts of examples/vlkd, run with an `mmkd` that only notes its words: each command must then resolve."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmkd_cli.cli.app import app

FOLDER = Path(__file__).parents[2] / "examples" / "vlkd"
PLACES = ("COCO", "VQAV2", "OKVQA", "NOCAPS", "XSUM", "GLUE", "BART")
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
    for stage in ("prepare-data", "finetune", "generate", "evaluate"):
        for words in named(ran, stage).values():
            effective(words, monkeypatch)


@pytest.mark.parametrize(("variant", "unset"), [("vit-l-14", "COCO"), ("rn50", "")])
def test_the_chain_says_what_is_missing_before_it_starts(variant: str, unset: str, tmp_path: Path) -> None:
    given = {name: f"/{name.lower()}" for name in PLACES if name != unset}
    code, ran = commands(tmp_path, "chain.sh", CONFIG=variant, **given)
    assert code == 2 and not ran
