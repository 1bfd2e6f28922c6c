"""A frozen diffusion UNet with the schedule that it was trained with: a noisy latent to the noise that is in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.score_distillation import noise_of_velocity, noised


class Denoiser(nn.Module):
    """unet: diffusers' UNet2DConditionModel. scheduler: any of diffusers', for its betas and its kind of prediction."""

    alphas_cumprod: Tensor

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        kind = scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise UserError(f"the scheduler's prediction_type is {kind!r}: only epsilon and v_prediction are supported")
        self.unet, self.velocity = unet, kind == "v_prediction"
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.float().clone())

    @property
    def timesteps(self) -> int:
        """How many there are; a time step is from 0 to one less."""
        return len(self.alphas_cumprod)

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """latents, noise [B, C, h, w], timesteps int64 [B] -> [B, C, h, w]."""
        return noised(latents, noise, self.alphas_cumprod[timesteps])

    def forward(self, noisy: Tensor, timesteps: Tensor, text_states: Tensor) -> Tensor:
        """noisy [B, C, h, w], timesteps int64 [B], text_states [B, L, D] -> the noise in it, float32 [B, C, h, w].

        The UNet computes in the precision of its own weights, whatever surrounds it.
        """
        with torch.autocast(noisy.device.type, enabled=False):
            said = self.unet(noisy.to(self.unet.dtype), timesteps, text_states.to(self.unet.dtype)).sample.float()
            return noise_of_velocity(said, noisy, self.alphas_cumprod[timesteps]) if self.velocity else said
