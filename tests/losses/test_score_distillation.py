"""Score distillation: diffusers' schedule, the formula in scalar loops, and autograd on a short reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from mmkd_cli.losses.score_distillation import noise_of_velocity, noised, score_distillation_per_row

SHAPE = (3, 4, 2, 5)


def scheduler(kind: str = "epsilon") -> DDPMScheduler:
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=kind)


def draws(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z, eps = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    return z, eps, torch.tensor([0, 417, 999])


def denoise(noisy: Tensor) -> Tensor:
    """A denoiser with a Jacobian that mixes all numbers of a row."""
    flat = noisy.flatten(1)
    mix = torch.randn(40, 40, generator=torch.Generator().manual_seed(9)).to(noisy.dtype)
    return torch.tanh(flat @ mix / 6).view(SHAPE)


def test_noise_is_added_as_by_the_scheduler() -> None:
    z, eps, t = draws()
    made = scheduler()
    assert torch.equal(noised(z, eps, made.alphas_cumprod[t]), made.add_noise(z, eps, t))


def test_the_noise_of_a_true_velocity_is_the_noise() -> None:
    z, eps, t = draws()
    made = scheduler("v_prediction")
    velocity, noisy = made.get_velocity(z, eps, t), made.add_noise(z, eps, t)
    torch.testing.assert_close(noise_of_velocity(velocity, noisy, made.alphas_cumprod[t]), eps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("jacobian", ["full", "skip"])
def test_the_value_is_the_formula(jacobian: Any, reduction: Any) -> None:
    z, eps, _ = draws()
    predicted, weight = denoise(z), torch.tensor([1.0, 0.25, 3.0])
    said = score_distillation_per_row(z, eps, predicted, weight, jacobian=jacobian, reduction=reduction)
    for row in range(3):
        total = sum((p - e) ** 2 for p, e in zip(predicted[row].flatten().tolist(), eps[row].flatten().tolist(),
                                                 strict=True))  # fmt: skip
        assert said[row].item() == pytest.approx(weight[row].item() * total / (1 if reduction == "sum" else 40))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_full_gradient_is_autograds_of_a_short_reference(kind: str, reduction: Any) -> None:
    z, eps, t = draws()
    made, weight = scheduler(kind), torch.tensor([1.0, 0.25, 3.0])
    ours = z.clone().requires_grad_()
    abar = made.alphas_cumprod[t]
    noisy = noised(ours, eps, abar)
    out = denoise(noisy)
    predicted = noise_of_velocity(out, noisy, abar) if kind == "v_prediction" else out
    score_distillation_per_row(ours, eps, predicted, weight, reduction=reduction).mean().backward()

    reference = z.double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        a = abar[row].double()
        z_t = a.sqrt() * reference[row] + (1 - a).sqrt() * eps[row].double()
        out = denoise(torch.stack([z_t] * 3))[row]
        eps_hat = a.sqrt() * out + (1 - a).sqrt() * z_t if kind == "v_prediction" else out
        total = total + weight[row].double() * (eps_hat - eps[row].double()).pow(2).sum()
    (total / 3 / (1 if reduction == "sum" else 40)).backward()
    torch.testing.assert_close(ours.grad, reference.grad.float(), atol=1e-5, rtol=1e-4)


def test_without_the_jacobian_the_gradient_is_the_weighted_error_to_the_last_bit() -> None:
    z, eps, t = draws()
    weight = torch.tensor([1.0, 0.25, 3.0])
    latents = z.clone().requires_grad_()
    predicted = denoise(noised(latents, eps, scheduler().alphas_cumprod[t]))
    score_distillation_per_row(latents, eps, predicted, weight, jacobian="skip").sum().backward()
    assert torch.equal(latents.grad, weight.view(3, 1, 1, 1) * (predicted.detach() - eps))
    latents.grad = None
    score_distillation_per_row(latents, eps, predicted, weight, jacobian="skip", reduction="mean").mean().backward()
    torch.testing.assert_close(latents.grad, weight.view(3, 1, 1, 1) * (predicted.detach() - eps) / 40 / 3)


def test_half_precision_predictions_are_compared_in_float32() -> None:
    z, eps, _ = draws()
    said = score_distillation_per_row(z, eps, denoise(z).bfloat16(), torch.ones(3))
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, (denoise(z).bfloat16().float() - eps).pow(2).flatten(1).sum(1))


def test_shapes_that_differ_are_an_error() -> None:
    z, eps, _ = draws()
    with pytest.raises(ValueError, match=r"give all as \[B, C, h, w\]"):
        score_distillation_per_row(z, eps, denoise(z)[:, :2], torch.ones(3))
