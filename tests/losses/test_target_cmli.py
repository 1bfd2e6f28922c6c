"""Target-CMLI against loops over words and patches."""

from __future__ import annotations

import math

import pytest
import torch

from mmkd_cli.losses.target_cmli import patch_regression_per_row, word_patch_per_row


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def error(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def test_it_is_the_slow_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    words, patches = (torch.randn((3, count, 4), generator=draw) for count in (5, 6))
    attend = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    values = word_patch_per_row(words, patches, attend)
    for row in range(3):
        found = []
        for word, counts in zip(words[row].tolist(), attend[row].tolist(), strict=True):
            best = max(patches[row].tolist(), key=lambda patch: cosine(word, patch))
            found += [error(word, best)] if counts else []
        assert values[row].item() == pytest.approx(sum(found) / max(len(found), 1), rel=1e-5)
    student = torch.randn((3, 6, 4), generator=draw)
    by_patch = patch_regression_per_row(student, patches)
    for row in range(3):
        pairs = zip(student[row].tolist(), patches[row].tolist(), strict=True)
        assert by_patch[row].item() == pytest.approx(sum(error(a, b) for a, b in pairs) / 6, rel=1e-5)


def test_where_gradients_go_and_what_does_not_fit() -> None:
    words, patches = (torch.randn((2, count, 4), requires_grad=True) for count in (3, 5))
    attend = torch.ones((2, 3), dtype=torch.bool)
    word_patch_per_row(words, patches, attend).sum().backward()
    assert words.grad is not None and patches.grad is not None
    chosen = (patches.grad.abs().sum(dim=2) > 0).sum(dim=1)
    assert (chosen >= 1).all() and (chosen <= 3).all()  # of the patches that a word chose
    student, teacher = (torch.randn((2, 3, 4), requires_grad=True) for _ in range(2))
    patch_regression_per_row(student, teacher).sum().backward()
    assert student.grad is not None and teacher.grad is None
    with pytest.raises(ValueError, match="differ in word_patch"):
        word_patch_per_row(words, patches[:, :, :2], attend)
    with pytest.raises(ValueError, match="differ in patch_regression"):
        patch_regression_per_row(student, teacher[:, :2])
