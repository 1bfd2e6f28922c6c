"""Losses against scalar loops, their gradients, their precision under autocast."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmkd_cli.losses.contrastive import info_nce, info_nce_per_row, same_picture_pairs
from mmkd_cli.losses.logit_scale import INITIAL_LOG_SCALE, clamp_logit_scale_, new_logit_scale
from mmkd_cli.losses.regression import cls_regression_per_row


def looped_info_nce(image: Tensor, text: Tensor, scale: float, ids: list[int]) -> list[float]:
    """-1/2 log p(text i | image i) - 1/2 log p(image i | text i), a scalar at a time in double precision."""

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    images, texts = image.tolist(), text.tolist()
    losses = []
    for i in range(len(images)):
        rivals = [j for j in range(len(images)) if j == i or ids[j] != ids[i]]
        own = math.exp(scale * cosine(images[i], texts[i]))
        to_text = own / sum(math.exp(scale * cosine(images[i], texts[j])) for j in rivals)
        to_image = own / sum(math.exp(scale * cosine(images[j], texts[i])) for j in rivals)
        losses.append(-(math.log(to_text) + math.log(to_image)) / 2)
    return losses


def test_cls_regression_equals_a_scalar_loop() -> None:
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    expected = [sum((student[b, d].item() - teacher[b, d].item()) ** 2 for d in range(7)) / 7 for b in range(5)]
    assert cls_regression_per_row(student, teacher).tolist() == pytest.approx(expected, rel=1e-5)


def test_cls_regression_moves_the_student_only() -> None:
    student = torch.randn(4, 3, requires_grad=True)
    teacher = torch.randn(4, 3, requires_grad=True)
    cls_regression_per_row(student, teacher).mean().backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, 2 * (student - teacher).detach() / 12)
    assert teacher.grad is None


@pytest.mark.parametrize("teacher_shape", [(4, 1), (1, 3), (4, 4), (3,)])
def test_cls_regression_refuses_to_broadcast(teacher_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="linear head"):
        cls_regression_per_row(torch.zeros(4, 3), torch.zeros(teacher_shape))


def test_cls_regression_of_bf16_is_computed_in_float32() -> None:
    student, teacher = torch.randn(3, 64).bfloat16(), torch.randn(3, 64).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = cls_regression_per_row(student, teacher)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, cls_regression_per_row(student.float(), teacher.float()))


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 1, 1], [3, 3, 3, 3, 3, 3]])
def test_info_nce_equals_a_scalar_loop(ids: list[int]) -> None:
    image, text = torch.randn(6, 5), torch.randn(6, 5)
    expected = looped_info_nce(image, text, 7.5, ids)
    image_ids = torch.tensor(ids)
    assert info_nce_per_row(image, text, 7.5, image_ids).tolist() == pytest.approx(expected, abs=1e-5)
    assert info_nce(image, text, 7.5, image_ids).item() == pytest.approx(sum(expected) / 6, abs=1e-5)


def test_info_nce_is_cross_entropy_with_the_diagonal_as_labels() -> None:
    image, text, labels = torch.randn(9, 4), torch.randn(9, 4), torch.arange(9)
    logits = 14.3 * torch.nn.functional.cosine_similarity(image[:, None], text[None, :], dim=2)
    expected = (
        torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)
    ) / 2
    torch.testing.assert_close(info_nce(image, text, 14.3), expected)


def test_info_nce_gradient_reaches_both_towers_and_the_scale_and_stays_finite_where_nothing_competes() -> None:
    image, text = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    log_scale = new_logit_scale()
    info_nce(image, text, log_scale.exp(), torch.tensor([0, 0, 1, 2])).backward()
    for leaf in (image, text, log_scale):
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0
    alone = torch.randn(2, 3, requires_grad=True)
    info_nce(alone, alone.detach(), 10.0, torch.tensor([7, 7])).backward()
    assert alone.grad is not None and torch.equal(alone.grad, torch.zeros_like(alone))


def test_info_nce_gradient_equals_finite_differences() -> None:
    image, text = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    leaf = image.float().requires_grad_()
    info_nce(leaf, text.float(), 5.0).backward()
    assert leaf.grad is not None
    step = 1e-5
    for i in range(3):
        for d in range(4):
            shift = torch.zeros_like(image)
            shift[i, d] = step
            up = looped_info_nce(image + shift, text, 5.0, [0, 1, 2])
            down = looped_info_nce(image - shift, text, 5.0, [0, 1, 2])
            assert leaf.grad[i, d].item() == pytest.approx((sum(up) - sum(down)) / 3 / (2 * step), abs=1e-4)


def test_info_nce_ignores_autocast_and_takes_bf16() -> None:
    image, text = torch.randn(8, 32), torch.randn(8, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = info_nce_per_row(image, text, 20.0)
        halves = info_nce_per_row(image.bfloat16(), text.bfloat16(), 20.0)
    assert torch.equal(lowered, info_nce_per_row(image, text, 20.0))
    assert torch.equal(halves, info_nce_per_row(image.bfloat16().float(), text.bfloat16().float(), 20.0))


def test_info_nce_refuses_unequal_widths() -> None:
    with pytest.raises(ValueError, match="one width"):
        info_nce(torch.zeros(4, 3), torch.zeros(4, 2), 1.0)


def test_same_picture_pairs_leave_the_diagonal() -> None:
    expected = [[False, True, False], [True, False, False], [False, False, False]]
    assert same_picture_pairs(torch.tensor([5, 5, 2])).tolist() == expected


def test_logit_scale_starts_at_clips_and_is_bounded_at_100() -> None:
    log_scale = new_logit_scale()
    assert log_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-6)
    assert log_scale.item() == pytest.approx(INITIAL_LOG_SCALE)
    with torch.no_grad():
        log_scale.fill_(9.0)
    clamp_logit_scale_(log_scale)
    assert log_scale.exp().item() == pytest.approx(100, rel=1e-5) and log_scale.requires_grad
    with torch.no_grad():
        log_scale.fill_(-1.0)
    clamp_logit_scale_(log_scale)
    assert log_scale.item() == 0.0
