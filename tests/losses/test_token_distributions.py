"""Top-k KL and the sampled loss against the whole distributions, by loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.losses.token_distributions import sampled_cross_entropy_per_token, topk_kl_per_token
from mmkd_cli.teachers.token_codecs import draw, top_k

T, V = 6, 30


def pair() -> tuple[Tensor, Tensor]:
    """Student's (with gradient) and teacher's logits [T, V]."""
    draw_ = torch.Generator().manual_seed(0)
    student = torch.randn((T, V), generator=draw_, requires_grad=True)
    return student, 2 * torch.randn((T, V), generator=draw_, requires_grad=True)


def loss(student: Tensor, teacher: Tensor, k: int, temperature: float = 1.0, **keys: Any) -> Tensor:
    said = top_k(teacher, k, 1.0 if keys.get("kd_form") == "literal" else temperature)
    return topk_kl_per_token(
        student, said["topk_ids"], said["topk_logits"], said["log_z"], temperature=temperature, **keys
    )


def in_loops(student: Tensor, teacher: Tensor, k: int, temperature: float) -> list[float]:
    """KL of the k largest tokens of the teacher and of the rest in one bucket, in Python's numbers."""
    values = []
    for z_s, z_t in zip((student / temperature).tolist(), (teacher / temperature).tolist(), strict=True):
        p, q = ([math.exp(z) / sum(map(math.exp, row)) for z in row] for row in (z_t, z_s))
        kept = sorted(range(V), key=lambda v: -p[v])[:k]
        buckets = [(p[v], q[v]) for v in kept]
        if k < V:
            buckets.append((1 - sum(p[v] for v in kept), 1 - sum(q[v] for v in kept)))
        values.append(sum(a * math.log(a / b) for a, b in buckets))
    return values


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("k", [1, 5, V - 1, V])
def test_topk_kl_is_that_of_the_buckets(k: int, temperature: float) -> None:
    student, teacher = pair()
    found = loss(student, teacher, k, temperature)
    assert found.tolist() == pytest.approx(in_loops(student, teacher, k, temperature), rel=1e-3, abs=1e-6)
    squared = loss(student, teacher, k, temperature, square=True)
    torch.testing.assert_close(squared, found * temperature**2)


def test_with_the_whole_vocabulary_it_is_torchs_kl_and_so_is_its_gradient() -> None:
    student, teacher = pair()
    found = loss(student, teacher, V, 2.0).mean()
    dense = F.kl_div((student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean")
    torch.testing.assert_close(found, dense)
    (own,), (wanted,) = torch.autograd.grad(found, student), torch.autograd.grad(dense, student)
    torch.testing.assert_close(own, wanted, atol=1e-6, rtol=1e-4)


def test_the_error_falls_with_k() -> None:
    """Of the value, and of the gradient."""
    student, teacher = pair()
    dense = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").sum(1)
    (wanted,) = torch.autograd.grad(dense.sum(), student)
    values, gradients = [], []
    for k in (1, 3, 8, 20, V):
        found = loss(student, teacher, k)
        assert (found <= dense + 1e-5).all()  # a bucket can only hide differences
        values.append(float((dense - found).mean().detach()))
        gradients.append(float((torch.autograd.grad(found.sum(), student)[0] - wanted).norm()))
    assert values == sorted(values, reverse=True) and gradients == sorted(gradients, reverse=True)
    assert values[-1] == pytest.approx(0, abs=1e-5) and gradients[-1] < 1e-5


def test_literal_is_the_summarys_code() -> None:
    student, teacher = pair()
    found = loss(student, teacher, V, 2.0, kd_form="literal").sum() / T
    written = F.kl_div(teacher.log_softmax(1) / 2, student.softmax(1) / 2, reduction="batchmean")
    torch.testing.assert_close(found, written)
    assert loss(student, teacher, 5, 2.0, kd_form="literal").isfinite().all()


def test_gradient_reaches_the_student_alone() -> None:
    student, teacher = pair()
    loss(student, teacher, 4).sum().backward()
    assert student.grad is not None and student.grad.isfinite().all()
    leaf = torch.ones((T, 3), requires_grad=True)
    sampled_cross_entropy_per_token(student, torch.zeros((T, 3), dtype=torch.int64), leaf).sum().backward()
    assert leaf.grad is None


def test_rounding_that_leaves_no_rest_is_no_nan() -> None:
    student, teacher = torch.zeros((1, 5), requires_grad=True), torch.tensor([[50.0, 0.0, 0.0, 0.0, 0.0]])
    for form in ("standard", "literal"):
        value = loss(student, teacher, 2, kd_form=form)
        value.sum().backward()
        assert value.isfinite().all() and student.grad.isfinite().all()


@pytest.mark.parametrize(("temperature", "proposal"), [(1.0, 1.0), (2.0, 0.7)])
def test_the_sampled_loss_is_unbiased_over_draws(temperature: float, proposal: float) -> None:
    """Mean over caches with other seeds: cross-entropy and its gradient, within five standard errors."""
    student, teacher = pair()
    p = (teacher.detach() / temperature).softmax(1)
    dense = -(p * (student / temperature).log_softmax(1)).sum(1)
    (wanted,) = torch.autograd.grad(dense.sum(), student)
    rng, values, gradients = np.random.default_rng(0), [], []
    for _ in range(1000):
        said = draw(teacher.detach(), rng.random((T, 8)), temperature, proposal)
        found = sampled_cross_entropy_per_token(
            student, said["sampled_ids"], said["sampled_weights"], temperature=temperature
        )
        values.append(found.detach())
        gradients.append(torch.autograd.grad(found.sum(), student)[0])
    for drawn, exact in ((torch.stack(values), dense.detach()), (torch.stack(gradients), wanted)):
        assert ((drawn.mean(0) - exact).abs() < 5 * drawn.std(0) / 1000**0.5 + 1e-3).all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in topk_kl"):
        topk_kl_per_token(torch.zeros(2, 5), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), torch.zeros(3))
