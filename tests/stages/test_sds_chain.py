"""SDS-CLIP from prepared data to a score: the cache it finds, what it loads, and the CLIP that other libraries open."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextModel

from mmkd_cli.architectures.stable_diffusion import StableDiffusion
from mmkd_cli.benches.embedding import paired
from mmkd_cli.core import artifacts
from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.data.prepared import open_data
from mmkd_cli.methods.sds import Sds
from mmkd_cli.stages import cache_teacher, evaluate
from mmkd_cli.students.dual_encoders import open_dual_encoder
from tests.architectures.tiny_stable_diffusion import stable_diffusion
from tests.stages.sds_chain import make_sds_chain, states, tuned
from tests.stages.small_chain import config_of, context


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chain with the run `first`; tests copy what they change."""
    folder = tmp_path_factory.mktemp("sds")
    make_sds_chain(folder)
    tuned(folder, "first", eval_bench="retrieval")
    return folder


@pytest.fixture
def folder(chain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chain, tmp_path / "chain"))


def alive(*kinds: type) -> set[int]:
    return {id(thing) for thing in gc.get_objects() if issubclass(type(thing), kinds)}


def test_only_the_unet_is_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the cache there is no VAE and no text encoder; the UNet is read once."""
    for part in ("load_vae", "load_text_encoder"):
        monkeypatch.setattr(StableDiffusion, part, lambda self, *given: pytest.fail("it was loaded"))
    gc.collect()
    before, unets = alive(AutoencoderKL, CLIPTextModel), alive(UNet2DConditionModel)
    seen: list[int] = []

    def look(self: Sds, step: int, gathered: Any) -> None:
        assert not alive(AutoencoderKL, CLIPTextModel) - before
        seen.append(len(alive(UNet2DConditionModel) - unets))

    monkeypatch.setattr(Sds, "after_step", look)
    tuned(folder, "lean", train__max_steps=2, train__validation=False)
    assert seen == [1, 1]
    assert "the UNet (float32), no VAE, no text encoder" in capsys.readouterr().err.replace("\n", " ")


def test_the_run_folder_and_its_metrics(chain: Path) -> None:
    run = artifacts.open_artifact(chain / "work", "first", "run")
    assert [(i.role, i.name) for i in run.inputs] == [("data", "squares"), ("cache", "states")]
    assert run.check() == {} and {"heads.safetensors", "model/open_clip_model.safetensors"} <= run.files.keys()
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        if "loss" in line:
            assert line["loss"] == pytest.approx(line["contrastive"] + 0.001 * line["sds"], rel=1e-5)
    assert {"val/sds", "val/contrastive"} <= next(line for line in lines if "val/loss" in line).keys()
    scores = [json.loads(line) for line in (run.path / "evaluations.jsonl").read_text().splitlines()]
    assert all(0 <= line["mean_recall"] <= 100 for line in scores)
    before, after = (load_file(place / "open_clip_model.safetensors") for place in (chain / "clip", run.path / "model"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("ln_" in name for name in moved)


def test_the_only_fitting_cache_is_found_and_another_command_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tuned(folder, "first", eval_bench="retrieval", cache="states", teacher__name="stable-diffusion",
                  teacher__weights=str(folder / "sd"))  # fmt: skip
    assert again["status"] == "already done"
    tuned(folder, None, train__max_steps=1)
    assert "cache: states, the only one of data 'squares' with text_states" in capsys.readouterr().err
    with pytest.raises(Refused, match=r"config.method.lambda was 0.001, the command says 0.1"):
        tuned(folder, "first", method__lambda=0.1)
    stable_diffusion(folder / "other", seed=1)
    states(folder, "others", folder / "other")
    with pytest.raises(UserError, match=r"others.*states|states.*others"):
        tuned(folder, None)
    with pytest.raises(Refused, match="was made with another teacher"):
        tuned(folder, "mixed", cache="others", teacher__name="stable-diffusion", teacher__weights=str(folder / "sd"))


def test_a_unet_that_is_not_the_caches_teachers_is_refused(folder: Path) -> None:
    """Though the text states would be the same: what was cached and what is asked are one model."""
    states(folder, "own", folder / "sd")
    stable_diffusion(folder / "other", seed=1)
    shutil.copytree(folder / "other" / "unet", folder / "sd" / "unet", dirs_exist_ok=True)
    with pytest.raises(Refused, match=r"not those that its cache was made with: files.unet.diffusion_pytorch_model"):
        tuned(folder, "changed", cache="own")
    tuned(folder, "control", method__name="contrastive", train__max_steps=1)


def test_a_dry_run_says_steps_and_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    said = tuned(folder, "dry", dry_run=True)
    assert sorted(folder.rglob("*")) == before
    assert said["steps"] == 6 and said["rows"] == 32
    norms, h_w = 2 * 64 * 6 + 2 * 32 * 5, 24 * 256 + 256
    assert said["parameters"]["trainable"] == norms + h_w
    warming = tuned(folder, "dry", dry_run=True, method__projection_warmup_steps=100)
    assert warming["parameters"]["trainable"] == norms + h_w
    keys = {"data": "squares", "teacher__name": "stable-diffusion", "teacher__weights": str(folder / "sd")}
    cached = cache_teacher.run(config_of(cache_teacher, **keys), context(folder / "work", "both", dry_run=True))
    assert "depends on the student and can't be cached" in cached["not_cacheable"]
    assert set(cached["signals"]) == {"text_states", "latents"}


def test_open_clip_itself_gives_the_embeddings_that_evaluate_uses(chain: Path) -> None:
    root = chain / "work"
    data = open_data(root, "squares")
    used = paired(BenchInput(model=open_dual_encoder("first", root=root), data=data, split="val"))
    name = f"local-dir:{root / 'runs' / 'first' / 'model'}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    listed = json.loads((chain / "squares" / "annotations.json").read_text())["images"]
    kept = [one for one in listed if one["split"] == "val"]
    with torch.no_grad():
        pictures = [transform(Image.open(chain / "squares" / one["filename"])) for one in kept]
        images = model.eval().encode_image(torch.stack(pictures), normalize=True)
        tokens = open_clip.get_tokenizer(name)(data.table("texts", "val")["text"])
        texts = model.encode_text(tokens, normalize=True)
    # open_clip resizes tensors of its own reading, ours bytes of the table: 8-bit rounding apart
    torch.testing.assert_close(used.images, images, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(used.texts, texts, atol=1e-5, rtol=1e-5)
    keys = {"bench__name": "retrieval", "bench__bootstrap": 0, "model": "first", "split": "val"}
    said = evaluate.run(config_of(evaluate, **keys), context(root, "scored"))
    assert said["zero_shot"]["value"] is False
    own = used.text_image
    ranks = ((texts @ images.T) > (texts @ images.T).gather(1, own[:, None])).sum(1)
    assert said["metrics"]["text_to_image_recall@5"] == pytest.approx(100 * (ranks < 5).float().mean().item())


def test_a_live_teacher_gives_the_same_numbers_as_its_cache_in_float32(folder: Path) -> None:
    """The captions' text states, and the latents that h_w warms up by."""
    keys = {"data": "squares", "signals": ["text_states", "latents"], "cache__threads": 1, "cache__dtype": "float32",
            "teacher__name": "stable-diffusion", "teacher__weights": str(folder / "sd")}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(folder / "work", "exact"))
    more = {"cache": "exact", "train__max_steps": 2, "train__validation": False, "method__projection_warmup_steps": 1,
            "method__projection_warmup": "latents"}  # fmt: skip
    tuned(folder, "cached", **more)
    tuned(folder, "live", live=True, **more)
    lines = [[json.loads(line) for line in (folder / "work/runs" / name / "metrics.jsonl").read_text().splitlines()]
             for name in ("cached", "live")]  # fmt: skip
    assert "latents" in lines[0][0] and "sds" in lines[0][1]
    for one, other in zip(*lines, strict=True):
        assert other == pytest.approx(one, rel=1e-5)
