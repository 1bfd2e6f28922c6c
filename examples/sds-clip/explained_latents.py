"""How much of the VAE's latents a CLIP's picture embedding tells: python explained_latents.py [RUN ...]

A line a model: R2 on 300 val pictures of the plain world of the best linear map (ridge, fitted on 2,000 training
pictures), of a run of `sds` also that of its h_w (below 0 where the mean latent is nearer), and root mean squares of
h_w's latents and of their mean over pictures. Without a run: the tiny CLIP that the arms start from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from torch import Tensor

import mmkd_cli
from mmkd_cli import scenes
from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root

ASSETS = Path(mmkd_cli.__file__).parent / "assets"
TRAIN, VAL = 2000, 300


@torch.no_grad()
def latents(pictures: Tensor) -> Tensor:
    """[n, 1024], scaled, of pictures [n, 3, 64, 64] from 0 to 1."""
    vae = AutoencoderKL.from_pretrained(ASSETS / "tiny-diffusion" / "vae").float().eval()
    found = torch.cat([vae.encode(2 * part - 1).latent_dist.mode() for part in pictures.split(100)])
    return (found * vae.config.scaling_factor).flatten(1)


@torch.no_grad()
def embeddings(folder: Path, pictures: Tensor) -> Tensor:
    """[n, d], not normalised."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    normalize = transform.transforms[-1]
    return torch.cat([model.eval().encode_image(normalize(part)) for part in pictures.split(200)])


def explained(said: Tensor, target: Tensor) -> float:
    """R2 over val, against the mean of training."""
    known, wanted = target[:TRAIN].mean(0), target[TRAIN:]
    return round(1 - ((said - wanted).square().sum() / (known - wanted).square().sum()).item(), 3)


def ridge(x: Tensor, target: Tensor) -> float:
    """R2 of the best of three penalties."""
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    gram, cross = x[:TRAIN].T @ x[:TRAIN], x[:TRAIN].T @ target[:TRAIN].double()
    eye = torch.eye(len(gram), dtype=torch.float64)
    return max(explained((x[TRAIN:] @ torch.linalg.solve(gram + penalty * eye, cross)).float(), target)
               for penalty in (0.01, 1.0, 100.0))  # fmt: skip


def rms(values: Tensor) -> float:
    return round(values.square().mean().sqrt().item(), 3)


def line(name: str | None, pictures: Tensor, target: Tensor) -> dict[str, Any]:
    run = artifacts.locate(default_root(), name, "run") if name else None
    x = embeddings(run / "model" if run else ASSETS / "tiny-clip", pictures)
    found: dict[str, Any] = {"model": name or "tiny-clip", "ridge_r2": ridge(x, target)}
    if run and (run / "heads.safetensors").is_file():
        with safe_open(run / "heads.safetensors", "pt") as heads:
            weight, bias = (heads.get_tensor(f"latent_map.{part}") for part in ("weight", "bias"))
        if json.loads((run / "plan.json").read_text(encoding="utf-8"))["config"]["method"]["normalize"]:
            x = torch.nn.functional.normalize(x, dim=1)
        said = x[TRAIN:] @ weight.T + bias
        found |= {"h_w_r2": explained(said, target), "h_w_rms": rms(said), "h_w_mean_rms": rms(said.mean(0))}
    return found


def main() -> None:
    torch.set_num_threads(1)
    rows = [
        scenes.scene(0, index, split, plain=True) for split, n in (("train", TRAIN), ("val", VAL)) for index in range(n)
    ]
    pictures = torch.from_numpy(np.stack([scenes.draw(row) for row in rows])).permute(0, 3, 1, 2).float() / 255
    target = latents(pictures)
    print(json.dumps({"latents_rms": rms(target)}))
    for name in [*sys.argv[1:]] or [None]:
        print(json.dumps(line(name, pictures, target)), flush=True)


if __name__ == "__main__":
    main()
