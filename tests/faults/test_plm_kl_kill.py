"""Training by plm-kl, and of the maps of prefix, killed at random moments: the bytes of an undisturbed command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmkd_cli.core import artifacts
from mmkd_cli.stages import cache_teacher, distill, prepare_data
from tests.architectures.tiny_bart import tiny_gpt2
from tests.architectures.tiny_language_models import tiny_language_model
from tests.faults.killing import killed
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain

OFTEN = {"train__batch_size": 8, "train__max_steps": 40, "train__peak_lr": 1e-3, "train__checkpoint_every": 5,
         "train__log_every": 3}  # fmt: skip


def token_distillation(folder: Path, name: str) -> None:
    """Masked targets, texts of several windows, and pairs: all that is drawn anew at each row and epoch."""
    torch.set_num_threads(1)
    keys = {"method__name": "plm-kl", "student__arch": f"local-dir:{folder / 'clip'}", "data": ["texts:lm", "squares"]}
    distill.run(config_of(distill, **keys, **OFTEN), context(folder / "work", name))


def prefix_maps(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    keys = {"method__name": "prefix", "student__weights": str(folder / "gpt2"), "student__max_tokens": 48,
            "data": "squares:clip"}  # fmt: skip
    distill.run(config_of(distill, **keys, **OFTEN), context(folder / "work", f"prefix-{name}"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    root = make_vlkd_chain(folder)
    tiny_gpt2(folder / "gpt2")
    tiny_language_model(folder / "lm", "masked")
    (folder / "texts").mkdir()
    (folder / "texts/train.txt").write_text("\n".join(f"text {n} of dogs, {'cats ' * (n % 9)}" for n in range(40)))
    (folder / "texts/val.txt").write_text("a dog\ntwo cats")
    keys = {"source__name": "text", "source__annotations": str(folder / "texts")}
    prepare_data.run(config_of(prepare_data, **keys), context(root, "texts"))
    keys = {"data": "texts", "teacher__name": "lm", "teacher__weights": str(folder / "lm"), "teacher__topk": 8,
            "teacher__max_tokens": 12, "teacher__long": "window", "cache__threads": 1}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(root, "lm"))
    return folder


@pytest.mark.parametrize(("work", "run"), [(token_distillation, "{}"), (prefix_maps, "prefix-{}")])
def test_killed_training_goes_on_to_the_same_bytes(chain: Path, work: Callable[[Path, str], None], run: str) -> None:
    work(chain, "whole")
    seen = chain / "work/runs" / run.format("killed") / "metrics.jsonl"
    seed = killed(work, chain, lambda: seen.stat().st_mtime_ns if seen.exists() else 0)
    whole, again = (artifacts.open_artifact(chain / "work", run.format(name), "run") for name in ("whole", "killed"))
    assert again.fingerprint == whole.fingerprint, f"seed {seed}"
    (weights,) = whole.path.glob("model/*.safetensors")
    for name in ("metrics.jsonl", "heads.safetensors", f"model/{weights.name}"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes(), f"seed {seed}: {name}"
