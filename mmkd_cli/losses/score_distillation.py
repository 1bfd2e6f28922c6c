"""Score distillation: how well a frozen diffusion model can find the noise in a student's latent.

The loss is SDS-CLIP's (arXiv 2307.09233), L = E_t,eps w(t) ||eps_hat - eps||^2. Its gradient with the UNet's Jacobian
left out is DreamFusion's (arXiv 2209.14988, equation 3). Noise and schedules are those of DDPM (arXiv 2006.11239);
v-prediction is that of arXiv 2202.00512. Shapes: B rows, latents [C, h, w].
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Jacobian = Literal["full", "skip"]
Reduction = Literal["sum", "mean"]


def noised(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """z_t = sqrt(abar) z + sqrt(1 - abar) eps. latents, noise [B, C, h, w], alphas_cumprod [B] -> [B, C, h, w]."""
    signal, deviation = _per_latent(alphas_cumprod**0.5), _per_latent((1 - alphas_cumprod) ** 0.5)
    return signal * latents + deviation * noise


def noise_of_velocity(velocity: Tensor, noisy: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The noise that a v-prediction implies: eps = sqrt(abar) v + sqrt(1 - abar) z_t. Shapes as in `noised`."""
    signal, deviation = _per_latent(alphas_cumprod**0.5), _per_latent((1 - alphas_cumprod) ** 0.5)
    return signal * velocity + deviation * noisy


def score_distillation_per_row(
    latents: Tensor, noise: Tensor, predicted: Tensor, weight: Tensor, *, jacobian: Jacobian = "full",
    reduction: Reduction = "sum",
) -> Tensor:  # fmt: skip
    """w_b ||eps_hat_b - eps_b||^2 of each row. latents, noise, predicted [B, C, h, w], weight [B] -> [B].

    predicted: the model's estimate of the noise. jacobian: `full` differentiates the formula as it stands, through
    `predicted`. Under `skip` the value is the same and the gradient on `latents` is w_b (eps_hat_b - eps_b), whatever
    `predicted` was computed from. reduction: over a latent's numbers; `mean` divides value and gradient by their count.
    """
    if not latents.shape == noise.shape == predicted.shape:
        raise ValueError(
            f"latents {list(latents.shape)}, noise {list(noise.shape)} and predicted noise {list(predicted.shape)} "
            "differ in score_distillation: give all as [B, C, h, w]"
        )
    # Only element-wise arithmetic on float32 tensors: autocast has nothing here to lower.
    error = predicted.float() - noise.float()
    squared = weight.float() * _reduced(error.square(), reduction)
    if jacobian == "full":
        return squared
    gradient = _per_latent(weight.float()) * error.detach()
    surrogate = _reduced(gradient * latents.float(), reduction)
    return squared.detach() + (surrogate - surrogate.detach())


def squared_distance_per_row(latents: Tensor, given: Tensor, reduction: Reduction = "sum") -> Tensor:
    """||z_b - given_b||^2 of each row: how far the student's latents are from the VAE's. [B, C, h, w] twice -> [B]."""
    return _reduced((latents.float() - given.float()).square(), reduction)


def _reduced(values: Tensor, reduction: Reduction) -> Tensor:
    flat = values.flatten(1)
    return flat.sum(dim=1) if reduction == "sum" else flat.mean(dim=1)


def _per_latent(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)
