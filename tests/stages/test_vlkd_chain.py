"""VLKD from prepared data to a run: CLIP from its cache or live, the folder, and retrieval with its encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmkd_cli.core import artifacts
from mmkd_cli.stages import evaluate
from mmkd_cli.teachers.clip import Clip
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import clip_keys, make_vlkd_chain, taught


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chain with the run `first`; tests copy what they change."""
    folder = tmp_path_factory.mktemp("vlkd")
    make_vlkd_chain(folder)
    taught(folder, "first")
    return folder


def metrics(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "work/runs" / name / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_and_its_metrics(chain: Path) -> None:
    run = artifacts.open_artifact(chain / "work", "first", "run")
    assert [(i.role, i.name) for i in run.inputs] == [("data", "squares"), ("cache", "clip")]
    assert run.check() == {} and {"heads.safetensors", "model/model.safetensors"} <= run.files.keys()
    lines = [line for line in metrics(chain, "first") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["loss"] == pytest.approx(line["ttdm"] + line["itcl"] + line["icti"], rel=1e-5)
    assert {"val/ttdm", "val/itcl", "val/icti"} <= next(x for x in metrics(chain, "first") if "val/loss" in x).keys()
    before, after = (load_file(place / "model.safetensors") for place in (chain / "bart", run.path / "model"))
    assert before.keys() == after.keys()
    assert not torch.equal(before["model.shared.weight"], after["model.shared.weight"])


def test_cached_and_live_clip_give_the_same_losses_and_clip_stays_as_it_is(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(chain, tmp_path / "chain"))
    weights = (folder / "clip" / "open_clip_model.safetensors").read_bytes()
    loaded: list[Any] = []
    real = Clip.load
    monkeypatch.setattr(Clip, "load", lambda self, *given: (real(self, *given), loaded.append(self))[0])
    taught(folder, "cached", train__seed=1)
    assert loaded == []  # no CLIP is in memory where its cache serves
    taught(folder, "live", train__seed=1, live=True, cache="clip", **clip_keys(folder))
    (teacher,) = loaded
    fresh = Clip(teacher.config)
    real(fresh, "cpu")
    for name, value in teacher._model.state_dict().items():
        assert torch.equal(value, fresh._model.state_dict()[name]), name
    assert all(p.grad is None and not p.requires_grad for p in teacher._model.parameters())
    assert (folder / "clip" / "open_clip_model.safetensors").read_bytes() == weights
    for one, other in zip(metrics(folder, "cached"), metrics(folder, "live"), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_its_encoder_retrieves_with_the_cache_or_the_live_teacher(chain: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(chain, tmp_path / "chain")) / "work"
    keys = {"bench__name": "retrieval", "model": "first", "split": "val"}
    cached = evaluate.run(config_of(evaluate, **keys), context(root, "cached"))
    shutil.rmtree(root / "caches" / "clip")
    shutil.rmtree(root / "results")
    live = evaluate.run(config_of(evaluate, **keys), context(root, "live"))
    assert live["metrics"] == cached["metrics"] and live["zero_shot"]["value"] is False
