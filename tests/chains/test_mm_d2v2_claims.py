"""Claims of examples/mm-d2v2: the arms differ by what is compared; on scenes the script runs in a tiny form."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.chains import test_vlkd_scripts as vlkd
from tests.warm import Warm

FOLDER = Path(__file__).parents[2] / "examples" / "mm-d2v2"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlkd, "FOLDER", FOLDER)


def arms(ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Run -> its configuration; the other stages' commands resolve, too."""
    for stage in ("prepare-data", "cache-teacher", "evaluate"):
        for words in vlkd.named(ran, stage).values():
            vlkd.effective(words, monkeypatch)
    return {name: vlkd.effective(words, monkeypatch) for name, words in vlkd.named(ran, "distill").items()}


def test_losses_on_photos_have_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = vlkd.commands(tmp_path, "flickr8k-losses.sh", MMKD_TEST_DATA="/data", SEEDS="0 1")
    assert code == 0
    runs = arms(ran, monkeypatch)
    methods, said = {name: one.pop("method") for name, one in runs.items()}, {}
    for name, one in runs.items():
        method = methods[name]
        said[name] = (method["regression_weight"], method["contrastive_weight"], method["target_loss"],
                      method["target_bank"], method["bank"]["size"])  # fmt: skip
        assert one == {**runs["mse-s0"], "train": {**runs["mse-s0"]["train"], "seed": int(name[-1])}}
    assert {name.removesuffix("-s1"): one for name, one in said.items() if name.endswith("-s1")} == {
        "mse": (1.0, 0.0, "mse", 0, 0), "mse-itc": (0.5, 1.0, "mse", 0, 0),
        "cdl": (1.0, 0.0, "contrastive-target", 0, 0), "cdl-bank": (1.0, 0.0, "contrastive-target", 2048, 0),
        "itc": (0.0, 1.0, "mse", 0, 0), "itc-bank": (0.0, 1.0, "mse", 0, 2048),
    }  # fmt: skip


def test_arms_on_scenes_differ_by_teacher_and_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = vlkd.commands(tmp_path, "claim-scenes.sh", SEEDS="0 1")
    assert code == 0
    runs = arms(ran, monkeypatch)
    names = ["none", *(f"{teacher}-{loss}" for teacher in ("beit2", "d2v2", "dino") for loss in ("mse", "bank"))]
    assert set(runs) == {f"{name}-s{seed}" for name in names for seed in (0, 1)}
    changed = {name: (one.pop("method"), one.pop("cache", None)) for name, one in runs.items()}
    assert changed["none-s0"][0]["regression_weight"] == 0 and changed["none-s0"][1] is None
    assert changed["dino-bank-s1"][0] == {
        **changed["dino-mse-s1"][0], "target_loss": "contrastive-target", "target_bank": 2048,
    }  # fmt: skip
    assert changed["dino-bank-s1"][1] == changed["dino-mse-s0"][1] == "dino"
    for name, one in runs.items():
        assert one == {**runs["none-s0"], "train": {**runs["none-s0"]["train"], "seed": int(name[-1])}}


def test_the_claim_on_scenes_runs_in_a_tiny_form(tmp_path: Path, warm: Warm) -> None:
    warm.commands(tmp_path / "bin")
    given = {
        **os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(FOLDER.parents[1]), "MMKD_ROOT": str(tmp_path / "root"), "SEEDS": "0", "TEACHERS": "beit2",
        "STEPS": "2", "TRAIN": "64", "TEST": "32", "MORE": "--set train.max_steps=2",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", str(FOLDER / "claim-scenes.sh")], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    titles = ["no teacher: contrast alone", "BEiT-2, MSE", "BEiT-2, contrast with a bank"]
    assert [row for row in rows if row[0].endswith("(1 seed)")] and all(
        any(row[0] == f"{title} (1 seed)" and all(row[1:]) for row in rows) for title in titles
    )
    assert any(row[0] == f"{titles[2]} less {titles[1]}" for row in rows)


def test_killed_at_the_third_teacher_the_third_goes_on(tmp_path: Path) -> None:
    words = [sys.executable, str(FOLDER / "self_supervised.py"), "--steps", "3", "--batch-size", "4"]
    given = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}

    def run(place: Path) -> list[str]:
        return [*words, "--out", str(place / "out"), "--work", str(place / "work"), "--checkpoints", "1"]

    subprocess.run(run(tmp_path / "whole"), env=given, capture_output=True, check=True)
    broken = subprocess.Popen(run(tmp_path / "broken"), env=given, stdout=subprocess.PIPE)
    checkpoint = tmp_path / "broken" / "work" / "dino.pt"
    while not checkpoint.is_file() and broken.poll() is None:
        time.sleep(0.01)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert not (tmp_path / "broken" / "out" / "dino").exists()
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 3
    done = subprocess.run(run(tmp_path / "broken"), env=given, capture_output=True, text=True, check=True)
    assert done.stdout.count("is there") == 2 and "step 0," not in done.stdout
    for name in ("beit2", "d2v2", "dino"):
        one, other = (load_file(tmp_path / place / "out" / name / "model.safetensors") for place in ("whole", "broken"))
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
        model = timm.create_model(f"local-dir:{tmp_path / 'whole' / 'out' / name}", pretrained=True)
        assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 128)
