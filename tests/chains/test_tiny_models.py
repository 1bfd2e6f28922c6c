"""Scripts of examples/tiny, a few steps each: the folders open in open_clip and diffusers unchanged, byte by byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from mmkd_cli import scenes

ROOT = Path(__file__).resolve().parents[2]
SHORT = {
    "clip": ["--steps", "2", "1", "--batch-size", "4", "--items", "2"],
    "diffusion": ["--steps", "2", "1", "--batch-size", "4", "--items", "1", "--rows", "20", "--draws", "1",
                  "--timesteps", "500", "--decoder-steps", "1"],
}  # fmt: skip


def made(script: str, place: Path) -> Path:
    """The folder that a script writes."""
    command = [sys.executable, str(ROOT / "examples" / "tiny" / f"{script}.py"), *SHORT[script]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [*command, "--work", str(place / "work"), "--out", str(place / script)],
        check=True, env=environment, capture_output=True,
    )  # fmt: skip
    return place / script


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("clip", tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("diffusion", tmp_path_factory.mktemp("diffusion"))


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_both_models_are_small(clip: Path, diffusion: Path) -> None:
    assert size(clip) + size(diffusion) < 8_000_000


@torch.no_grad()
def test_open_clip_opens_the_clip_with_its_tokenizer(clip: Path) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    stored = load_file(clip / "open_clip_model.safetensors")
    assert set(stored) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor.float(), stored[name].float(), rtol=0, atol=0)

    tokenize = open_clip.get_tokenizer(f"local-dir:{clip}")
    texts = [text for index in range(200) for text in scenes.captions(scenes.scene(0, index, "test"))]
    ids = tokenize(texts)
    end = tokenize.tokenizer.eos_token_id
    assert ids.max() == end == len(tokenize.tokenizer) - 1  # open_clip takes the highest id for the end
    assert ((ids == end).sum(1) >= 1).all()  # no caption is cut
    assert model.eval().encode_text(ids[:4]).isfinite().all()
    pixels = transform(Image.fromarray(scenes.draw(scenes.scene(0, 0, "val"))))
    assert pixels.shape == (3, 64, 64) and model.encode_image(pixels[None]).isfinite().all()


@torch.no_grad()
def test_diffusers_opens_the_pipeline_and_the_encoder_gives_principal_components(diffusion: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(diffusion, local_files_only=True, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(["a red circle"], num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)

    pictures = np.stack([scenes.draw(scenes.scene(0, index, "val")) for index in range(200)])
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = pipeline.vae.encode(x).latent_dist.mode()
    assert latents.shape == (200, 16, 8, 8)
    assert 0.8 < (latents * pipeline.vae.config.scaling_factor).std() < 1.25
    # what a linear map of the latents can't say of the pixels is little, and the best of its size leaves hardly less
    patches = torch.nn.functional.unfold(x, 8, stride=8).transpose(1, 2).flatten(0, 1)
    known = torch.cat([latents.flatten(2).transpose(1, 2).flatten(0, 1), torch.ones(len(patches), 1)], dim=1)
    left = (patches - known @ torch.linalg.lstsq(known, patches).solution).square().sum() / len(patches)
    variances = torch.linalg.eigvalsh(torch.cov(patches.T.double()))
    best = variances.flip(0)[16:].sum()
    assert best < left < 1.5 * best and left < 0.15 * variances.sum()


@pytest.mark.parametrize("script", SHORT)
def test_a_script_makes_the_same_files_again(script: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first, second = request.getfixturevalue(script), made(script, tmp_path)
    files = [file.relative_to(first) for file in first.rglob("*.safetensors")]
    assert files
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
