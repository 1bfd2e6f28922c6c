"""Scripts of examples/clip-vil: at full size every command resolves; what is compared differs in little.

The claim on scenes runs in a tiny form.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.chains import test_vlkd_scripts as vlkd
from tests.warm import Warm

FOLDER = Path(__file__).parents[2] / "examples" / "clip-vil"
PLACES = ("COCO", "VQAV2", "GQA", "SNLI_VE", "R2R", "BERT")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlkd, "FOLDER", FOLDER)


@pytest.mark.parametrize("variant", ["rn50", "rn50x4"])
def test_the_full_size_chain_resolves(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = vlkd.commands(tmp_path, "chain.sh", CONFIG=variant, **{name: f"/{name.lower()}" for name in PLACES})
    assert code == 0
    found = {}
    for stage in ("prepare-data", "cache-teacher", "distill", "finetune", "generate", "evaluate"):
        for name, words in vlkd.named(ran, stage).items():
            found[stage, name] = vlkd.effective(words, monkeypatch)
    first, second = (found["distill", f"{stage}-{variant}"] for stage in ("first", "second"))
    assert [one["method"]["qa_weight"] for one in (first, second)] == [0.0, 1.0]
    assert first["student"]["weights"] == "/bert" and second["student"]["start"].endswith(f"first-{variant}")
    tuned = found["finetune", f"second-{variant}-gqa"]
    assert tuned["student"]["tower"]["mode"] == "trained" and tuned["task"]["name"] == "gqa"
    for one in (first, second, tuned):
        assert one["teacher"]["grid"] | {"interpolation": ""} == {
            "resize": "pad", "height": 384, "width": 640, "interpolation": "",
        }  # fmt: skip
    assert found["cache-teacher", f"coco-{variant}"]["teacher"]["grid"]["height"] == 448


@pytest.mark.parametrize(("variant", "unset"), [("rn50", "GQA"), ("vit-b-32", "")])
def test_the_chain_says_what_is_missing_before_it_starts(variant: str, unset: str, tmp_path: Path) -> None:
    given = {name: f"/{name.lower()}" for name in PLACES if name != unset}
    code, ran = vlkd.commands(tmp_path, "chain.sh", CONFIG=variant, **given)
    assert code == 2 and not ran


def test_the_captions_arms_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = vlkd.commands(tmp_path, "captions.sh", MMKD_TEST_DATA="/data", SEEDS="0 1")
    assert code == 0
    runs = {name: vlkd.effective(words, monkeypatch) for name, words in vlkd.named(ran, "finetune").items()}
    losses = {name: one["task"]["loss"] for name, one in runs.items()}
    assert losses == {f"{loss}-s{seed}": loss for loss in ("cross-entropy", "self-critical") for seed in (0, 1)}
    assert all(one["train"]["seed"] == int(name[-1]) for name, one in runs.items())
    for stage in ("prepare-data", "cache-teacher", "generate", "evaluate"):
        for words in vlkd.named(ran, stage).values():
            vlkd.effective(words, monkeypatch)


def test_daquars_arms_differ_by_their_pictures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = vlkd.commands(tmp_path, "daquar.sh", MMKD_TEST_DATA="/data", SEEDS="0 1")
    assert code == 0
    runs = {name: vlkd.effective(words, monkeypatch) for name, words in vlkd.named(ran, "finetune").items()}
    assert set(runs) == {f"{data}-s{seed}" for data in ("rooms", "grey") for seed in (0, 1)}
    for seed in (0, 1):
        seen, blind = (runs[f"{data}-s{seed}"] for data in ("rooms", "grey"))
        assert seen["task"] == blind["task"] and seen["student"] == blind["student"] and seen["train"] == blind["train"]
        assert seen["train"]["seed"] == seed and seen["task"]["normalize"] is False
    for stage in ("prepare-data", "cache-teacher", "generate", "evaluate"):
        for words in vlkd.named(ran, stage).values():
            vlkd.effective(words, monkeypatch)


def test_encoders_differ_by_their_cells_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = vlkd.commands(tmp_path, "claim-scenes.sh", SEEDS="0 1", ENCODERS="tiny-clip colour-shape nothing")
    assert code == 0
    runs = {
        name: vlkd.effective(words, monkeypatch)
        for stage in ("distill", "finetune")
        for name, words in vlkd.named(ran, stage).items()
    }
    kinds = {name.removeprefix("tiny-clip-") for name in runs if name.startswith("tiny-clip-")}
    models = [f"{model}-{task}" for model in ("head", "scratch", "pretrained") for task in ("vqa", "snli-ve")]
    assert kinds == {f"{one}s{seed}" for one in (*(f"{model}-" for model in models), "stream-", "") for seed in (0, 1)}
    assert {name for name in runs if name.startswith("nothing-")} == {
        f"nothing-{one}s{seed}" for one in ("head-vqa-", "head-snli-ve-", "") for seed in (0, 1)
    }
    for name in kinds:
        one, other = runs[f"tiny-clip-{name}"], runs[f"colour-shape-{name}"]
        assert one.pop("cache").replace("tiny-clip", "colour-shape") == other.pop("cache")
        assert one.pop("model", "").replace("tiny-clip", "colour-shape") == other.pop("model", "")
        assert one == other and one["train"]["seed"] == int(name[-1])
    for task in ("vqa", "snli-ve"):
        scratch, pretrained = (runs[f"colour-shape-{model}-{task}-s0"] for model in ("scratch", "pretrained"))
        assert scratch["student"].pop("weights").endswith("/bert") and "model" not in scratch
        assert pretrained == scratch
    for stage in ("prepare-data", "cache-teacher", "generate", "evaluate"):
        for words in vlkd.named(ran, stage).values():
            vlkd.effective(words, monkeypatch)


def test_the_claim_on_scenes_runs_in_a_tiny_form(tmp_path: Path, warm: Warm) -> None:
    warm.commands(tmp_path / "bin")
    given = {
        **os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(FOLDER.parents[1]), "MMKD_ROOT": str(tmp_path / "root"), "SEEDS": "0",
        "ENCODERS": "colour-shape", "STEPS": "2", "TASKS": "snli-ve", "MODELS": "pretrained", "TRAIN": "64",
        "TEST": "32", "MORE": "--set train.max_steps=2",
    }  # fmt: skip
    script = ["sh", str(FOLDER / "claim-scenes.sh")]
    done = subprocess.run(script, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    (measured,) = [row for row in rows if row[0] == "class: colour and shape"]
    assert [bool(cell) for cell in measured[1:]] == [False, False, False, False, True, False]
    judged = tmp_path / "root" / "results" / "colour-shape-pretrained-snli-ve-s0" / "predictions.jsonl"
    assert len(judged.read_text().splitlines()) == 32 * 3
