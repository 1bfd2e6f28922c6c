"""Contrast with a bank against loops over single numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmkd_cli.losses.bank_contrast import bank_contrast
from mmkd_cli.losses.contrastive import info_nce

SCALE, GAMMA = 5.0, 0.8


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def slow(anchors: Tensor, keys: Tensor, bank: Tensor, left_out: Tensor, ages: list[int], weighing: str) -> float:
    columns = [*map(unit, keys.tolist()), *bank.tolist()]
    age = [0] * len(keys) + ages
    share = [GAMMA**a / sum(GAMMA**b for b in age) for a in age]
    total = 0.0
    for i, anchor in enumerate(map(unit, anchors.tolist())):
        scores = [SCALE * sum(x * y for x, y in zip(anchor, column, strict=True)) for column in columns]
        if weighing == "logits":
            scores = [score * weight for score, weight in zip(scores, share, strict=True)]
        factors = [GAMMA**a for a in age] if weighing == "log" else [1.0] * len(age)
        summed = sum(factor * math.exp(score) for j, (factor, score) in enumerate(zip(factors, scores, strict=True))
                     if not left_out[i, j])  # fmt: skip
        total += math.log(summed) - scores[i]
    return total / len(anchors)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    anchors, keys, bank = (torch.randn((rows, 4), generator=draw) for rows in (5, 5, 6))
    return anchors, keys, torch.nn.functional.normalize(bank, dim=1)


@pytest.mark.parametrize("weighing", ["none", "log", "logits", "classes"])
def test_the_loss_is_the_slow_formula(weighing: Any) -> None:
    anchors, keys, bank = drawn()
    left_out = torch.zeros((5, 11), dtype=torch.bool)
    left_out[1, 3] = left_out[2, 7] = left_out[:, 10] = True
    ages = [1, 1, 2, 2, 3, 9]
    weighed = {} if weighing == "none" else {"ages": torch.tensor(ages), "gamma": GAMMA, "weighing": weighing}
    value = bank_contrast(anchors, keys, bank, SCALE, left_out=left_out, **weighed)
    assert value.item() == pytest.approx(slow(anchors, keys, bank, left_out, ages, weighing), rel=1e-5)


def test_class_weights_change_nothing_and_the_others_do() -> None:
    anchors, keys, bank = drawn()
    ages = torch.tensor([1, 1, 2, 2, 3, 3])
    plain = bank_contrast(anchors, keys, bank, SCALE)
    log, logits, classes = (
        bank_contrast(anchors, keys, bank, SCALE, ages=ages, gamma=GAMMA, weighing=weighing)
        for weighing in ("log", "logits", "classes")
    )  # fmt: skip
    assert classes.item() == pytest.approx(plain.item(), rel=1e-6)
    assert log < plain  # old negatives count less
    assert abs(logits - plain) > 0.1
    worn = bank_contrast(anchors, keys, bank, SCALE, ages=1000 * ages, gamma=GAMMA)
    assert worn.item() == pytest.approx(bank_contrast(anchors, keys, None, SCALE).item(), rel=1e-6)


def test_without_a_bank_it_is_half_of_info_nce() -> None:
    image, text, _ = drawn()
    both = (bank_contrast(image, text, None, SCALE) + bank_contrast(text, image, None, SCALE)) / 2
    assert both.item() == pytest.approx(info_nce(image, text, SCALE).item(), rel=1e-6)


def test_gradient_reaches_anchors_keys_and_scale_and_no_bank() -> None:
    anchors, keys, bank = (x.requires_grad_(True) for x in drawn())
    scale = torch.tensor(SCALE, requires_grad=True)
    bank_contrast(anchors, keys, bank, scale).backward()
    assert bank.grad is None and all(x.grad is not None and x.grad.abs().sum() > 0 for x in (anchors, keys, scale))
    with pytest.raises(ValueError, match=r"anchors \[5, 4\] and keys \[6, 4\] differ"):
        bank_contrast(anchors, bank, None, SCALE)
