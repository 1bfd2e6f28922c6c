"""The mean of layers against loops over single numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmkd_cli.losses.layer_mean import EPS, layer_mean, layer_mean_per_token


def slow_normal(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / math.sqrt(variance + EPS) for value in values]


def slow_mean(layers: list[Tensor], lengths: list[int]) -> list[list[list[float]]]:
    """[row][token][channel] of the tokens that are no padding."""
    found = []
    for row, length in enumerate(lengths):
        channels = layers[0].shape[2]
        total = [[0.0] * channels for _ in range(length)]
        for layer in layers:
            for channel in range(channels):
                normal = slow_normal([float(layer[row, token, channel]) for token in range(length)])
                for token in range(length):
                    total[token][channel] += normal[token] / len(layers)
        found.append(total)
    return found


def drawn(count: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [3 * torch.randn((3, 6, 4), generator=draw) + 5 for _ in range(count)]


@pytest.mark.parametrize("lengths", [[6, 6, 6], [6, 4, 1]])
@pytest.mark.parametrize("final_norm", [False, True])
def test_the_loss_is_the_slow_formula(lengths: list[int], final_norm: bool) -> None:
    student, teacher = drawn(2, 0), drawn(4, 1)
    attend = torch.arange(6) < torch.tensor(lengths)[:, None]
    mask = None if min(lengths) == 6 else attend
    said, target = layer_mean(student, mask), layer_mean(iter(teacher), mask)
    values = layer_mean_per_token(said, target, final_norm=final_norm)
    ours, theirs = slow_mean(student, lengths), slow_mean(teacher, lengths)
    for row, length in enumerate(lengths):
        for token in range(length):
            a, b = ours[row][token], theirs[row][token]
            if final_norm:
                a, b = slow_normal(a), slow_normal(b)
            expected = sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
            assert values[row, token].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not said[~attend].any()


def test_what_stands_in_the_padding_changes_nothing() -> None:
    (layer,) = drawn(1, 2)
    attend = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    other = layer.masked_fill(~attend[..., None], 1e4)
    torch.testing.assert_close(layer_mean([other], attend), layer_mean([layer], attend))


def test_gradient_reaches_the_student_alone_and_bfloat16_is_computed_in_float32() -> None:
    (student,), (teacher,) = drawn(1, 3), drawn(1, 4)
    student.requires_grad_(True)
    teacher.requires_grad_(True)
    layer_mean_per_token(layer_mean([student]), layer_mean([teacher]), final_norm=True).sum().backward()
    assert student.grad is not None and student.grad.abs().sum() > 0 and teacher.grad is None
    assert layer_mean([teacher.bfloat16()]).dtype == torch.float32


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"student \[3, 6, 4\] and teacher \[3, 5, 4\] differ in layer_mean"):
        layer_mean_per_token(torch.zeros(3, 6, 4), torch.zeros(3, 5, 4), final_norm=False)
    with pytest.raises(ValueError, match="no layers"):
        layer_mean([])
