"""TTDM, ITCL and ICTI against loops of scalars, written from the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.infilling import infilling_per_row
from mmkd_cli.losses.text_distance import text_distance_per_row


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_text_distance(normalize: bool, reduction: str) -> None:
    student, teacher = random(4, 6), random(4, 6, seed=1)
    slow = []
    for e, t in zip(student.tolist(), teacher.tolist(), strict=True):
        e, t = (unit(e), unit(t)) if normalize else (e, t)
        squares = [(a - b) ** 2 for a, b in zip(e, t, strict=True)]
        slow.append(sum(squares) / (len(squares) if reduction == "mean" else 1))
    found = text_distance_per_row(student, teacher, normalize=normalize, reduction=reduction)
    assert found.tolist() == pytest.approx(slow, rel=1e-5)


def test_the_teacher_gets_no_gradient_and_shapes_are_checked() -> None:
    student, teacher = random(3, 5).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    text_distance_per_row(student, teacher).sum().backward()
    assert student.grad is not None and student.grad.abs().sum() > 0 and teacher.grad is None
    with pytest.raises(ValueError, match="differ in text_distance"):
        text_distance_per_row(student, random(3, 4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_infilling(smoothing: float) -> None:
    logits, labels = random(2, 4, 7), torch.tensor([[1, 2, 3, 0], [6, 5, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    slow = []
    for row in range(2):
        total, count = 0.0, 0
        for t in range(4):
            if not mask[row, t]:
                continue
            scores = logits[row, t].tolist()
            logs = [s - math.log(sum(math.exp(x) for x in scores)) for s in scores]
            total -= (1 - smoothing) * logs[int(labels[row, t])] + smoothing * sum(logs) / len(logs)
            count += 1
        slow.append(total / count)
    assert infilling_per_row(logits, labels, mask, smoothing).tolist() == pytest.approx(slow, rel=1e-5)


def test_contrastive() -> None:
    """ITCL as the sheet writes it: 1/2 of both directions' cross-entropies, s = v . e / tau."""
    image, text, tau = random(5, 3), random(5, 3, seed=1), 0.05
    v, e = [unit(x) for x in image.tolist()], [unit(x) for x in text.tolist()]
    s = [[sum(a * b for a, b in zip(v[i], e[j], strict=True)) / tau for j in range(5)] for i in range(5)]
    rows = sum(math.log(sum(math.exp(s[i][j]) for j in range(5))) - s[i][i] for i in range(5)) / 5
    columns = sum(math.log(sum(math.exp(s[i][j]) for i in range(5))) - s[j][j] for j in range(5)) / 5
    assert float(info_nce(image, text, 1 / tau)) == pytest.approx((rows + columns) / 2, rel=1e-4)
