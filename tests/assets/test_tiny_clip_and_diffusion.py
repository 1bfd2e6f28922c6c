"""The shipped CLIP and latent diffusion model open in their own libraries; the one sees what is there, the other knows
what goes with what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from mmkd_cli import scenes

ASSETS = Path(__file__).resolve().parents[2] / "mmkd_cli" / "assets"
LEAST = 0.6
CLIP, DIFFUSION = ASSETS / "tiny-clip", ASSETS / "tiny-diffusion"


def picture(row: scenes.Scene) -> Image.Image:
    return Image.fromarray(scenes.draw(row))


def test_they_are_small() -> None:
    sizes = [file.stat().st_size for folder in (CLIP, DIFFUSION) for file in folder.rglob("*") if file.is_file()]
    assert sum(sizes) < 8_000_000


@pytest.mark.parametrize(("by", "ending", "least"), [("shape", "", 0.7), ("colour", " shape", 0.9)])
def test_clip_names_single_objects(by: str, ending: str, least: float) -> None:
    """Chance is 0.125."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{CLIP}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{CLIP}")
    rows = [scenes.scene(7, index, "val", objects=1, plain=True) for index in range(100)]
    with torch.no_grad():
        pixels = torch.stack([transform(picture(row)) for row in rows])
        image = model.eval().encode_image(pixels, normalize=True)
        names = [f"a picture of a {name}{ending}" for name in scenes.CLASS_NAMES[by]]
        said = (image @ model.encode_text(tokenize(names), normalize=True).T).argmax(1)
    right = np.mean([int(k) == scenes.class_label(row, by) for k, row in zip(said, rows, strict=True)])
    assert right > least


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(DIFFUSION, local_files_only=True, torch_dtype=torch.float32)


def latents(pipeline: StableDiffusionPipeline, rows: Sequence[scenes.Scene]) -> tuple[Tensor, Tensor]:
    """Pixels [n, 3, 64, 64] from -1 to 1 and the VAE's means, not scaled."""
    pixels = torch.stack([torch.from_numpy(scenes.draw(row)).permute(2, 0, 1) for row in rows]).float() / 127.5 - 1
    return pixels, pipeline.vae.encode(pixels).latent_dist.mode()


@torch.no_grad()
def test_the_vae_brings_a_picture_back(pipeline: StableDiffusionPipeline) -> None:
    """Nearer to it than to any other."""
    pixels, encoded = latents(pipeline, [scenes.scene(7, index, "val", plain=True) for index in range(12)])
    again = pipeline.vae.decode(encoded).sample
    distance = (again[:, None] - pixels[None]).square().mean((2, 3, 4))
    assert (distance.argmin(1) == torch.arange(len(pixels))).all() and distance.diagonal().mean() < 0.1


@torch.no_grad()
def test_the_unet_knows_which_colour_is_on_which_shape(pipeline: StableDiffusionPipeline) -> None:
    """Under the true caption noise is found better than where colours have changed places. Chance is 0.5."""
    swaps = [scenes.swap("seen-pairs", 7, index, plain=True) for index in range(40)]
    _, encoded = latents(pipeline, [row for swap in swaps for row in swap.scenes])
    clean = (encoded * pipeline.vae.config.scaling_factor).repeat_interleave(2, dim=0)  # item, picture, caption
    ids = pipeline.tokenizer([text for swap in swaps for text in (*swap.captions, *swap.captions)],
                             padding="max_length", return_tensors="pt").input_ids  # fmt: skip
    states = pipeline.text_encoder(ids).last_hidden_state
    draw, errors = torch.Generator().manual_seed(0), torch.zeros(len(clean))
    for t in (350, 500, 650, 800):
        noise = torch.randn(clean.shape[1:], generator=draw).expand_as(clean)
        times = torch.full((len(clean),), t)
        said = pipeline.unet(pipeline.scheduler.add_noise(clean, noise, times), times, states).sample
        errors += (said - pipeline.scheduler.get_velocity(clean, noise, times)).square().mean((1, 2, 3))
    chosen = errors.view(-1, 2, 2).argmin(2)
    assert (chosen == torch.tensor([0, 1])).float().mean() > LEAST
