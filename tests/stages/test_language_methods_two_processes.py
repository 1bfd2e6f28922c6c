"""vlkd and plm-kl on two processes give one process's losses: contrastive batches gathered, tokens and rows counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.stages import cache_teacher, distill
from tests.architectures.tiny_language_models import tiny_language_model
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain

OFTEN = {"train.batch_size": 7, "train.max_steps": 8, "train.peak_lr": 0.003, "train.log_every": 1}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    root = make_vlkd_chain(folder)
    tiny_language_model(folder / "lm", "masked")
    keys = {"data": "squares", "teacher__name": "lm", "teacher__weights": str(folder / "lm"), "teacher__topk": 8,
            "teacher__max_tokens": 18, "cache__threads": 1}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(root, "lm"))
    return folder


def keys_of(folder: Path, method: str) -> dict[str, Any]:
    """Without dropout; captions, and so their tokens, are of several lengths."""
    if method == "vlkd":
        own = {"student.weights": folder / "bart", "student.max_tokens": 48, "student.dropout": 0.0,
               "data": ["squares:clip"], "train.warmup_steps": 0}  # fmt: skip
    else:
        own = {"student.arch": f"local-dir:{folder / 'clip'}", "data": ["squares:lm"], "method.scale": 1.0}
    return {"method.name": method, **own, **OFTEN}


@pytest.mark.parametrize(("method", "parts"), [("vlkd", "ttdm itcl icti"), ("plm-kl", "kl contrastive")])
def test_two_processes_equal_one(chain: Path, method: str, parts: str) -> None:
    keys = keys_of(chain, method)
    said = [f"{name}={json.dumps(value) if isinstance(value, list) else value}" for name, value in keys.items()]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmkd_cli",
         "distill", "--root", chain / "work", "--name", f"{method}-two", "--device", "cpu",
         *(word for text in said for word in ("--set", text))],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = {name.replace(".", "__"): str(value) if isinstance(value, Path) else value for name, value in keys.items()}
    distill.run(config_of(distill, **own), context(chain / "work", f"{method}-one"))
    one, two = (
        [json.loads(line) for line in (chain / f"work/runs/{method}-{name}/metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len([line for line in one if {*parts.split()} <= line.keys()]) == 8
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-4, abs=1e-5)
