"""Stable Diffusion: its pipeline's own text states and latents, parts loaded as they are needed, published sizes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors.torch import load_file, save_file

from mmkd_cli.core.errors import UserError
from mmkd_cli.teachers.stable_diffusion import StableDiffusionConfig, StableDiffusionTeacher
from tests.architectures.tiny_stable_diffusion import FACTOR, MAX_TOKENS, SIZE, stable_diffusion

TEXTS = ["a dog", "two cats on a mat!", "", "word " * 40]


def teacher(folder: Path, **keys: Any) -> StableDiffusionTeacher:
    return StableDiffusionTeacher(StableDiffusionConfig(weights=str(folder), **keys))


def pipeline(folder: Path, made: StableDiffusionTeacher) -> StableDiffusionPipeline:
    """Diffusers' own pipeline of the folder's parts."""
    from transformers import CLIPTextModel, CLIPTokenizer

    return StableDiffusionPipeline(
        vae=made.diffusion.load_vae(), text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), unet=made.diffusion.load_unet(),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.mark.parametrize("second", [False, True])
def test_text_states_are_the_pipelines(tmp_path: Path, second: bool) -> None:
    """Of 1.x, and of 2.x, whose tokenizer pads with `!`."""
    stable_diffusion(tmp_path, linear_projection=second)
    made = teacher(tmp_path)
    made.load("cpu")
    tokens = made.tokenize(TEXTS)
    assert tokens["input_ids"].shape == (4, MAX_TOKENS)
    said = made(tokens, ["text_states"])["text_states"]
    expected, _ = pipeline(tmp_path, made).encode_prompt(TEXTS, "cpu", 1, False)
    torch.testing.assert_close(said, expected)
    assert (tokens["input_ids"][0, -1] == 0) == second


def test_latents_are_the_vaes_mean_in_the_units_that_the_unet_sees(tmp_path: Path) -> None:
    made = teacher(stable_diffusion(tmp_path))
    made.load("cpu")
    values = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    said = made({"pixels": made.picture_transform(picture)[None]}, ["latents"])["latents"]
    assert said.shape == (1, 4, SIZE, SIZE)
    side = SIZE * FACTOR
    resized = picture.resize((side, side * 50 // 40), Image.Resampling.LANCZOS)
    cut = resized.crop((0, 4, side, 4 + side))
    pixels = VaeImageProcessor(vae_scale_factor=FACTOR).preprocess(cut)
    vae = pipeline(tmp_path, made).vae
    with torch.no_grad():
        expected = vae.encode(pixels).latent_dist.mean * 0.18215
    torch.testing.assert_close(said, expected, atol=1e-5, rtol=1e-5)


def test_only_what_is_asked_for_is_loaded(tmp_path: Path) -> None:
    made = teacher(stable_diffusion(tmp_path))
    made.load("cpu")
    assert not made.loaded
    made(made.tokenize(TEXTS), ["text_states"])
    assert list(made.loaded) == ["text_encoder"]
    shutil.rmtree(tmp_path / "text_encoder")
    other = teacher(tmp_path)
    other.load("cpu")
    side = SIZE * FACTOR
    assert list(other({"pixels": torch.zeros(1, 3, side, side, dtype=torch.uint8)}, ["latents"])) == ["latents"]
    with pytest.raises(RuntimeError, match="load comes before"):
        teacher(tmp_path)(made.tokenize(TEXTS), ["text_states"])


def test_published_key_names_and_half_precision_files_are_read(tmp_path: Path) -> None:
    """Published text encoders keep `text_model.` before each name, and position ids among the weights."""
    made = teacher(stable_diffusion(tmp_path))
    made.load("cpu")
    plain, identity = made(made.tokenize(TEXTS), ["text_states"])["text_states"], made.identity()
    file = tmp_path / "text_encoder" / "model.safetensors"
    state = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(file).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(MAX_TOKENS)[None]
    file.unlink()
    save_file({n: v.half() if v.is_floating_point() else v for n, v in state.items()},
              file.with_name("model.fp16.safetensors"), metadata={"format": "pt"})  # fmt: skip
    again = teacher(tmp_path)
    again.load("cpu")
    said = again(again.tokenize(TEXTS), ["text_states"])["text_states"]
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, plain, atol=0.01, rtol=0.01)
    assert identity != again.identity()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_lack_something_are_not_filled_at_random(tmp_path: Path, part: str) -> None:
    made = teacher(stable_diffusion(tmp_path)).diffusion
    (file,) = (tmp_path / part).glob("*.safetensors")
    state = load_file(file)
    del state[sorted(state)[0]]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"{tmp_path / part} does not .*{sorted(state)[0][:4]}"):
        getattr(made, f"load_{part}")()


@pytest.mark.parametrize("prediction_type", [None, "v_prediction"])
def test_the_schedule_is_the_published_one(tmp_path: Path, prediction_type: str | None) -> None:
    scheduler = teacher(stable_diffusion(tmp_path, prediction_type=prediction_type)).diffusion.scheduler()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(scheduler.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)
    assert scheduler.config.prediction_type == (prediction_type or "epsilon")


def test_what_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    stable_diffusion(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"unet/diffusion_pytorch_model.safetensors is not there: name a folder"):
        teacher(tmp_path).identity()
    with pytest.raises(UserError, match=r"/nowhere/at/all is not there"):
        teacher(Path("/nowhere/at/all")).signals()
    with pytest.raises(UserError, match=r"text_encoder/config.json of somebody/model is not on this machine"):
        StableDiffusionTeacher(StableDiffusionConfig(weights="somebody/model")).signals()
    with pytest.raises(UserError, match=r"CompVis/stable-diffusion-v1-4 is not on this machine"):
        StableDiffusionTeacher(StableDiffusionConfig()).identity()
    shutil.copy(tmp_path / "vae" / "config.json", tmp_path / "unet" / "config.json")
    with pytest.raises(UserError, match="its AutoencoderKL denoises"):
        teacher(tmp_path).signals()


@pytest.mark.parametrize(
    ("version", "width", "latent", "picture", "parameters"),
    [
        ("1.4", 768, 64, 512, 859_520_964 + 83_653_863 + 123_060_480),
        ("1.5", 768, 64, 512, 859_520_964 + 83_653_863 + 123_060_480),
        ("2.1-base", 1024, 64, 512, 865_910_724 + 83_653_863 + 340_387_840),
        ("2.1", 1024, 96, 768, 865_910_724 + 83_653_863 + 340_387_840),
    ],
)
def test_published_sizes(version: Any, width: int, latent: int, picture: int, parameters: int) -> None:
    made = StableDiffusionTeacher(StableDiffusionConfig(version=version))
    shapes = {name: spec.shape for name, spec in made.signals().items()}
    assert shapes == {"text_states": (77, width), "latents": (4, latent, latent)}
    assert made.picture_transform.size == (picture, picture)
    assert made.parameters_count() == parameters
