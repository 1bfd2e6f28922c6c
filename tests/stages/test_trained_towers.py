"""Image towers that are trained with what sees through them: the cache's losses, what changes, what a run holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.architectures.tiny_language_models import tiny_bert
from tests.contracts.tiny_teachers import timm_file

PAD = [f"--set=teacher.grid.{key}={value}" for key, value in {"resize": "pad", "height": 64, "width": 96}.items()]
SHORT = ["--set=train.max_steps=3", "--set=train.batch_size=8", "--set=train.log_every=1", "--set=train.warmup_steps=0"]


@pytest.fixture
def teacher(mmkd: Any, tmp_path: Path) -> list[str]:
    """Flags of the teacher; the data `world` are prepared."""
    mmkd("prepare-data", "--source", "scenes", "--name", "world", "--set", "source.train=16", "--set", "source.val=6",
         "--set", "source.test=0")  # fmt: skip
    return ["--teacher", f"timm:test_resnet:{timm_file('test_resnet', tmp_path, 0)}", *PAD]


def losses(run: Path, *kinds: str) -> list[list[float]]:
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    return [[line[kind] for kind in kinds] for line in map(json.loads, text.splitlines()) if "loss" in line]


def test_a_tower_that_stays_gives_the_caches_losses(mmkd: Any, tmp_path: Path, teacher: list[str]) -> None:
    bert = ["--student", "vlp", "--set", f"student.weights={tiny_bert(tmp_path / 'bert')}", "--data", "world", *SHORT]
    mmkd("cache-teacher", *teacher, "--signals", "grid", "--data", "world", "--name", "grids", "--dtype", "float32")
    mmkd("distill", "--method", "vlp", *bert, "--cache", "grids", "--set=method.cells=4", "--name", "cached")
    still = [
        "--set=student.tower.mode=trained",
        "--set=student.tower.batch_norm=frozen",
        "--set=student.tower.lr=1e-12",
    ]
    mmkd("distill", "--method", "vlp", *bert, *teacher, *still, "--set=method.cells=4", "--name", "beside")
    kinds = ("loss", "mlm", "itm")
    runs = tmp_path / "work" / "runs"
    for cached, beside in zip(losses(runs / "cached", *kinds), losses(runs / "beside", *kinds), strict=True):
        assert beside == pytest.approx(cached, rel=1e-4)


def test_answers_go_on_from_a_pre_trained_tower(mmkd: Any, tmp_path: Path, teacher: list[str]) -> None:
    bert, trained = tiny_bert(tmp_path / "bert"), ["--set=student.tower.mode=trained", "--set=student.tower.lr=0.01"]
    mmkd("distill", "--method", "vlp", "--student", "vlp", "--set", f"student.weights={bert}", "--data", "world",
         *teacher, *trained, *SHORT, "--name", "streamed")  # fmt: skip
    first_run = tmp_path / "work" / "runs" / "streamed"
    still = ["--set=student.tower.lr=1e-12", "--set=student.tower.batch_norm=frozen"]
    mmkd("distill", "--method", "vlp", "--student", "vlp", "--set", "student.start=streamed", "--data", "world",
         *teacher, "--set=student.tower.mode=trained", *still, *SHORT, "--set=method.qa_weight=1",
         "--set=method.least=1", "--name", "second")  # fmt: skip
    before, after = (
        load_file(first_run.parent / name / "model" / "tower.safetensors") for name in ("streamed", "second")
    )
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    inputs = json.loads((first_run.parent / "second" / "manifest.json").read_text())["inputs"]
    assert [(one["role"], one["name"]) for one in inputs if one["kind"] == "run"] == [("start", "streamed")]
    assert "is needed by run 'second'" in mmkd("rm", "runs/streamed", code=3).stderr
    said = mmkd("finetune", "--task", "vqa", "--student", "vlp", "--set=student.start=streamed", "--data", "world",
                "--model", "streamed", code=2).stderr  # fmt: skip
    assert "student.start is of distill" in said
    mmkd("finetune", "--task", "vqa", "--student", "vlp", "--model", "streamed", "--data", "world", *SHORT,
         "--set=task.least=1", "--name", "answers")  # fmt: skip
    runs = tmp_path / "work" / "runs"
    first, second = (load_file(runs / name / "model" / "tower.safetensors") for name in ("streamed", "answers"))
    assert first.keys() == second.keys() and any(not torch.equal(first[name], second[name]) for name in first)
    written = json.loads(mmkd("generate", "--task", "vqa", "--model", "answers", "--split", "val", "--json").stdout)
    assert written["rows"] == 30
    mmkd("evaluate", "--bench", "vqav2", "--predictions", written["name"], "--name", "scored")
    for name in (written["name"], "scored"):  # its own tower's cells, and heat over each picture
        page = (tmp_path / "work" / "results" / name / "report.html").read_text()
        assert "what the model looked at" in page and page.count("data:image/jpeg") % 2 == 0
    one = mmkd("generate", "--task", "vqa", "--model", "answers", "--image", picture(tmp_path), "--question", "What?")
    assert one.stdout.strip()


def test_two_processes_train_a_tower_as_one_does(mmkd: Any, tmp_path: Path, teacher: list[str]) -> None:
    """With its own optimiser, its gradients averaged; batch norms keep to their file."""
    small = [f"--set=student.{key}={value}" for key, value in {
        "width": 16, "layers": 1, "heads": 2, "fused_width": 16, "word_width": 8, "dropout": 0.0,
        "tower.mode": "trained", "tower.lr": 0.1, "tower.batch_norm": "frozen"}.items()]  # fmt: skip
    words = ["finetune", "--task", "vqa", "--student", "mcan", "--data", "world", *teacher, *small, *SHORT,
             "--set=task.least=1", "--set=train.batch_size=10", "--set=train.peak_lr=0.01"]  # fmt: skip
    mmkd(*words, "--name", "one")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmkd_cli",
         *words, "--name", "two", "--device", "cpu", "--root", str(tmp_path / "work")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "work" / "runs"
    first, second = (losses(runs / name, "loss", "accuracy") for name in ("one", "two"))
    assert len(first) == 3 and second == [pytest.approx(one, rel=1e-4) for one in first]
    before = load_file(tmp_path / "model.safetensors")
    one, two = (load_file(runs / name / "model" / "tower.safetensors") for name in ("one", "two"))
    assert any(not torch.equal(one[name], before[name]) for name in one)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def picture(folder: Path) -> Path:
    """A file of one."""
    from PIL import Image

    Image.new("RGB", (90, 60), (200, 30, 30)).save(folder / "red.png")
    return folder / "red.png"


def test_a_tower_is_trained_and_goes_on_with_its_run(mmkd: Any, tmp_path: Path, teacher: list[str]) -> None:
    small = [f"--set=student.{key}={value}" for key, value in
             {"width": 16, "layers": 1, "heads": 2, "feed": 16, "dropout": 0.0}.items()]  # fmt: skip
    trained = ["--set=student.tower.mode=trained", "--set=student.tower.lr=0.01"]
    first = [
        "finetune",
        "--task",
        "caption",
        "--student",
        "grid-captioner",
        "--data",
        "world",
        *teacher,
        *small,
        *trained,
    ]
    mmkd(*first, *SHORT, "--set=task.least=1", "--name", "captioner")
    runs = tmp_path / "work" / "runs"
    before = load_file(tmp_path / "model.safetensors")
    tower = load_file(runs / "captioner" / "model" / "tower.safetensors")
    assert tower.keys() <= before.keys() and any(not torch.equal(tower[name], before[name]) for name in tower)
    assert not any(name.startswith("tower") for name in load_file(runs / "captioner" / "model" / "model.safetensors"))
    again = ["finetune", "--task", "caption", "--student", "grid-captioner", "--model", "captioner", "--data", "world"]
    mmkd(*again, "--set=task.loss=self-critical", "--set=student.tower.batch_norm=frozen", *SHORT, "--name", "rewarded")
    written = mmkd("generate", "--task", "caption", "--model", "rewarded", "--split", "val", "--json").stdout
    assert json.loads(written)["rows"] == 6
    after = load_file(runs / "rewarded" / "model" / "tower.safetensors")
    assert all(torch.equal(after[name], tower[name]) for name in tower if "running" in name)  # its batch norms froze
    mmkd("cache-teacher", *teacher, "--signals", "grid", "--data", "world", "--name", "grids")
    mmkd("finetune", "--task", "caption", "--student", "grid-captioner", "--data", "world", "--cache", "grids", *small,
         *SHORT, "--set=task.least=1", "--name", "cached")  # fmt: skip
    mmkd(*again[:-4], "--model", "cached", "--data", "world", *teacher, *trained, *SHORT, "--name", "further")
    assert (runs / "further" / "model" / "tower.safetensors").is_file()
    said = mmkd(*first, *SHORT, "--live", "--name", "other", code=2).stderr
    assert "is trained and not run live" in said
    said = mmkd(*again, "--cache", "grids", "--set=student.tower.mode=cached", *SHORT, code=2).stderr
    assert "trained its tower: no cache holds its grids" in said
