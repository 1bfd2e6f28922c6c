"""Both denoising-error scores against plain loops with diffusers' own parts; shared draws; error bars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from mmkd_cli.architectures.latent_diffusion import LatentDiffusion
from mmkd_cli.benches.denoising import DenoisingScorer, Draws, Form, gaps, means, standard_error, timesteps
from mmkd_cli.benches.own_tables import Pictures
from mmkd_cli.benches.pair_items import PairItems, Part
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import evaluate
from tests.architectures.tiny_stable_diffusion import FACTOR, MAX_TOKENS, SIZE, stable_diffusion
from tests.benches.bench_files import sugarcrepe_folder, winoground_folder
from tests.stages.small_chain import config_of, context

SIDE = SIZE * FACTOR
TEXTS = ["a red cat", "a blue dog", "a small red dog under a tree"]


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp(request.param), 0, request.param)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (side, 50, 3), dtype=np.uint8)) for side in (40, 50, 70)]


def items(pairs: list[list[tuple[int, int]]], order: list[int] | None = None) -> PairItems:
    """Items over the three pictures and texts; `order` renumbers both."""
    order = order or [0, 1, 2]
    shown = [pictures()[i] for i in order]
    place = {old: new for new, old in enumerate(order)}
    renumbered = [[(place[p], place[t]) for p, t in item] for item in pairs]
    found = Pictures([f"picture {i}" for i in order], lambda row: shown[row])
    part = Part([str(i) for i in range(len(pairs))], np.array(renumbered, np.int64), ["x"] * len(pairs))
    return PairItems({"": part}, [TEXTS[i] for i in order], found)


def scorer(folder: Path, form: Form, draws: int, batch_size: int = 5) -> DenoisingScorer:
    model = LatentDiffusion(f"diffusers:{folder}", "cpu", "float32")
    return DenoisingScorer(model, form, Draws.of(form, draws, model, 42), seed=42, batch_size=batch_size)


PAIRS = [[(0, 0), (0, 1)], [(1, 1), (1, 0)], [(2, 2), (2, 0)], [(0, 2), (0, 0)]]


def test_time_steps_are_the_published_ones() -> None:
    assert timesteps("diffusion-classifier", 1000, 1000) == list(range(1000))
    assert timesteps("diffusion-classifier", 200, 1000) == list(range(2, 1000, 5))  # t_interval 5
    assert timesteps("diffusion-itm", 10, 1000) == list(range(10, 911, 100))
    assert len(timesteps("diffusion-itm", 250, 1000)) == 245


@pytest.mark.parametrize("form", ["diffusion-classifier", "diffusion-itm"])
def test_scores_equal_plain_loops(folder: Path, form: Form) -> None:
    """Each pair by itself, with diffusers' scheduler and models called bare."""
    made = scorer(folder, form, 3)
    found = made.scores(items(PAIRS))[""]
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    scheduler = DDPMScheduler.from_config(json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))
    assert found.shape == (4, 2, len(made.draws.timesteps)) and found.dtype == np.float32

    def states(text: str) -> torch.Tensor:
        tokens = tokenizer(text, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        return encoder(tokens.input_ids).last_hidden_state

    def error(latent: torch.Tensor, text: str, draw: int) -> float:
        step, noise = made.draws.timesteps[draw], made.draws.noise[draw][None]
        noisy = scheduler.add_noise(latent, noise, step[None])
        said = unet(noisy, step, states(text)).sample
        if scheduler.config.prediction_type == "v_prediction":
            abar = scheduler.alphas_cumprod[step]
            said = abar.sqrt() * said + (1 - abar).sqrt() * noisy
        wrong = said - noise
        return wrong.square().mean().item() if form == "diffusion-classifier" else wrong.square().sum().sqrt().item()

    with torch.no_grad():
        for item, row in enumerate(PAIRS):
            for k, (picture, text) in enumerate(row):
                pixels = (
                    torch.from_numpy(np.array(resized(pictures()[picture], form))).permute(2, 0, 1)[None] / 127.5 - 1
                )
                said = vae.encode(pixels).latent_dist
                if form == "diffusion-classifier":
                    latent = said.mean * vae.config.scaling_factor
                else:
                    noise = made._noise_of(f"picture {picture}")[None]
                    latent = (said.mean + said.std * noise) * vae.config.scaling_factor
                for draw in range(found.shape[2]):
                    expected = -error(latent, TEXTS[text], draw)
                    if form == "diffusion-itm":
                        expected += error(latent, "", draw)
                    assert found[item, k, draw] == pytest.approx(expected, abs=3e-4)


def resized(image: Image.Image, form: Form) -> Image.Image:
    if form == "diffusion-itm":
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    width, height = image.size
    short = min(width, height)
    image = image.resize((width * SIDE // short, height * SIDE // short), Image.Resampling.BICUBIC)
    left, top = round((image.width - SIDE) / 2), round((image.height - SIDE) / 2)
    return image.crop((left, top, left + SIDE, top + SIDE))


@pytest.mark.parametrize("form", ["diffusion-classifier", "diffusion-itm"])
def test_draws_are_shared_and_depend_on_nothing_beside_a_pair(folder: Path, form: Form) -> None:
    """Pairs in another order, other items beside them, other batches: the same scores; equal pairs score equal."""
    first = scorer(folder, form, 4).scores(items(PAIRS))[""]
    again = scorer(folder, form, 4, batch_size=3).scores(items([item[::-1] for item in PAIRS[::-1]], [2, 0, 1]))[""]
    np.testing.assert_allclose(again[::-1, ::-1], first, atol=2e-5)
    twice = scorer(folder, form, 4).scores(items([[(0, 0), (0, 0)], [(0, 0), (1, 1)]]))[""]
    assert (twice[0, 0] == twice[0, 1]).all() and (twice[0, 0] == twice[1, 0]).all()


def test_the_empty_caption_changes_no_choice_of_captions(folder: Path) -> None:
    """What is subtracted is the same for all captions of a picture."""
    plain, less = (scorer(folder, "diffusion-itm", 3), scorer(folder, "diffusion-itm", 3))
    plain._under_nothing = lambda latents, pictures: np.zeros((len(pictures), 3), np.float32)  # type: ignore[method-assign]
    difference = less.scores(items(PAIRS))[""] - plain.scores(items(PAIRS))[""]
    np.testing.assert_allclose(difference[:, 0], difference[:, 1], atol=2e-5)
    assert np.abs(difference).max() > 0.1


def test_error_bars_of_paired_draws() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal((5, 1, 40))
    drawn = (common + 0.01 * rng.standard_normal((5, 3, 40))).astype(np.float32)
    value, error = gaps(drawn, ((0, 1), (0, 2)))
    for item in range(5):
        for place, other in enumerate((1, 2)):
            difference = drawn[item, 0].astype(float) - drawn[item, other]
            assert value[item, place] == pytest.approx(difference.mean(), abs=1e-6)
            assert error[item, place] == pytest.approx(np.std(difference, ddof=1) / 40**0.5, rel=1e-4)
    assert (error < 0.1 * standard_error(drawn)[:, 1:]).all()  # far below the scores' own
    assert means({"a": drawn})["a"] == pytest.approx(drawn.astype(float).mean(axis=2))
    assert (standard_error(drawn[..., :1]) == 0).all()


# ------------------------------------------------------------------------------------------------ through `evaluate`
def evaluated(root: Path, name: str, bench: str, dry_run: bool = False, **keys: Any) -> dict[str, Any]:
    keys = {"bench__name": bench, "bench__scorer": "diffusion", **keys}
    return evaluate.run(config_of(evaluate, **keys), context(root, name, dry_run=dry_run))


def test_winoground_by_a_diffusion_model(tmp_path: Path, folder: Path) -> None:
    root = tmp_path / "work"
    keys = {"model": f"diffusers:{folder}", "bench__annotations": str(winoground_folder(tmp_path / "wino"))}
    dry = evaluated(root, "d", "winoground", bench__draws=4, dry_run=True, **keys)
    assert dry["rows"] == 12 and dry["seconds"] > 0 and not (root / "results").exists()
    document = evaluated(root, "d", "winoground", bench__draws=4, **keys)
    assert document["counts"] == {"items": 3, "skipped": 0, "draws": 4} and document["model"]["kind"] == "diffusers"
    for name, value in document["metrics"].items():
        assert document["by"]["draws, low"][name] <= value <= document["by"]["draws, high"][name]
    assert set(document["by"]["draws"]) == {"undecided_items"}
    lines = [json.loads(line) for line in (root / "results/d/predictions.jsonl").read_text().splitlines()]
    assert all(len(line["errors"]) == 4 and min(line["errors"]) > 0 and len(line["gaps"]) == 4 for line in lines)
    c0i0, _, c1i0, _ = lines[0]["scores"]
    assert lines[0]["gaps"][0][0] == pytest.approx(c0i0 - c1i0, abs=1e-5)
    with pytest.raises(Refused, match=r"config.bench.draws was 4, the command says 5"):
        evaluated(root, "d", "winoground", bench__draws=5, **keys)
    with pytest.raises(UserError, match="embeds nothing: ask it by --scorer diffusion"):
        evaluated(root, "e", "winoground", bench__scorer="cosine", **keys)


def test_what_a_diffusion_scorer_refuses(tmp_path: Path) -> None:
    keys = {"bench__annotations": str(sugarcrepe_folder(tmp_path / "crepe"))}
    with pytest.raises(UserError, match="--scorer diffusion asks a diffusion model, not 'open_clip:ViT-B-32'"):
        evaluated(tmp_path, "r", "sugarcrepe", model="open_clip:ViT-B-32", **keys)
    np.savez(tmp_path / "e.npz", **{"add_att.image": np.ones((3, 2)), "add_att.text": np.ones((3, 2, 2))})
    with pytest.raises(UserError, match="--embeddings takes the place of --scorer"):
        evaluated(tmp_path, "r", "sugarcrepe", embeddings=str(tmp_path / "e.npz"), **keys)


def test_only_a_folder_of_diffusers_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not 'timm:vit'"):
        LatentDiffusion("timm:vit", "cpu", "float32")
    gone: Any = LatentDiffusion(f"diffusers:{tmp_path / 'gone'}", "cpu", "float32")
    with pytest.raises(UserError, match="is not there"):
        gone.identity()
