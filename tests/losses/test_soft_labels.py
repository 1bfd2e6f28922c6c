"""The divergence of whole distributions against sums over classes."""

from __future__ import annotations

import math

import pytest
import torch

from mmkd_cli.losses.soft_labels import soft_label_kl_per_row


def test_it_is_the_slow_formula_and_torchs_batchmean() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn((4, 7), generator=draw) for _ in range(2))
    values = soft_label_kl_per_row(student, teacher)
    for row, (s, t) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        log_q = [x - math.log(sum(math.exp(y) for y in s)) for x in s]
        log_p = [x - math.log(sum(math.exp(y) for y in t)) for x in t]
        expected = sum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True))
        assert values[row].item() == pytest.approx(expected, rel=1e-4)
    reference = torch.nn.functional.kl_div(student.log_softmax(dim=1), teacher.softmax(dim=1), reduction="batchmean")
    torch.testing.assert_close(values.mean(), reference)


def test_gradient_reaches_the_student_alone() -> None:
    student, teacher = (torch.randn(3, 5, requires_grad=True) for _ in range(2))
    soft_label_kl_per_row(student, teacher).sum().backward()
    assert teacher.grad is None and student.grad is not None
    torch.testing.assert_close(student.grad, student.softmax(dim=1).detach() - teacher.softmax(dim=1).detach())
    with pytest.raises(ValueError, match=r"student \[3, 5\] and teacher \[3, 4\] differ in soft_label_kl"):
        soft_label_kl_per_row(student, teacher[:, :4])
