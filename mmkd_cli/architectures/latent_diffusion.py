"""Stable Diffusion to be asked how well it denoises a picture under a caption: VAE, text encoder and UNet, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmkd_cli.architectures.denoiser import Denoiser
from mmkd_cli.architectures.stable_diffusion import StableDiffusion
from mmkd_cli.architectures.transformers_clip import FixedLength
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.references import parse_model

_VERSION = "1.4"
"""Whose sizes stand in where a hub's id is asked before its files are here; a named folder or id has its own."""


class LatentDiffusion:
    """diffusers:FOLDER (`core.contracts.LatentDenoiser`). Weights are read at first use.

    precision: float32 or bfloat16, of UNet, VAE and text encoder; schedules and errors are float32. memory: where
    hashes of its files are noted.
    """

    image_signal: str | None = None

    def __init__(self, reference: str, device: str, precision: str, memory: Path | None = None) -> None:
        library, name, _ = parse_model(reference)
        if library != "diffusers":
            raise UserError(
                f"--scorer diffusion asks a diffusion model, not {reference!r}: name it by --model diffusers:FOLDER"
            )
        self.diffusion = StableDiffusion(name, _VERSION)
        self.device, self.dtype, self.memory = device, getattr(torch, precision), memory

    def identity(self) -> dict[str, Any]:
        """SHA-256 of all its files."""
        return {"library": "diffusers", "files": self.diffusion.identity(self.memory)}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.diffusion.latent_shape

    @property
    def picture_size(self) -> int:
        return self.diffusion.picture_size

    @property
    def timesteps(self) -> int:
        return self._denoiser.timesteps

    @torch.no_grad()
    def latents(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """pixels [B, 3, S, S] from -1 to 1, noise [B, C, h, w] -> float32 [B, C, h, w].

        The VAE's mean, or with noise a sample, times its scaling factor.
        """
        said = self._vae.encode(pixels.to(self.device, self.dtype)).latent_dist
        drawn: Tensor = said.mean if noise is None else said.mean + said.std * noise.to(self.device, self.dtype)
        return drawn.float() * float(self._vae.config.scaling_factor)

    @torch.no_grad()
    def text_states(self, texts: Sequence[str]) -> Tensor:
        """[B, L, D], padded as the model was trained."""
        encoder, tokenize = self._text
        states: Tensor = encoder(tokenize(texts)["input_ids"].to(self.device)).last_hidden_state
        return states

    @torch.no_grad()
    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """latents, noise [B, C, h, w], timesteps int64 [B] -> [B, C, h, w]."""
        return self._denoiser.noised(latents, noise, timesteps)

    @torch.no_grad()
    def noise_in(self, noisy: Tensor, timesteps: Tensor, text_states: Tensor) -> Tensor:
        """The UNet's answer, float32 [B, C, h, w]."""
        said: Tensor = self._denoiser(noisy, timesteps, text_states)
        return said

    @cached_property
    def _denoiser(self) -> Denoiser:
        denoiser = Denoiser(self.diffusion.load_unet(self.dtype), self.diffusion.scheduler())
        return denoiser.eval().requires_grad_(False).to(self.device)

    @cached_property
    def _vae(self) -> Any:
        vae: Any = self.diffusion.load_vae(self.dtype)
        vae.enable_slicing()  # picture by picture: its activations are a hundred times a picture's size
        return vae.eval().requires_grad_(False).to(self.device)

    @cached_property
    def _text(self) -> tuple[Any, FixedLength]:
        encoder = self.diffusion.load_text_encoder(self.dtype).eval().requires_grad_(False).to(self.device)
        return encoder, FixedLength(self.diffusion.tokenizer(), self.diffusion.text_shape[0])
