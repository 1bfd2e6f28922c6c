"""The memory bank against a plain list, and the moving average against its formula."""

from __future__ import annotations

from collections import deque

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.training.memory_bank import NO_PICTURE, MemoryBank, MovingAverage

WIDTH = 3


def batches(*sizes: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn((size, WIDTH), generator=draw) for size in sizes]


def content(bank: MemoryBank) -> dict[tuple[float, ...], tuple[int, int]]:
    """Kept vector -> its picture and age."""
    vectors, pictures, ages, kept = bank.read()
    rows = zip(vectors[kept].tolist(), pictures[kept].tolist(), ages[kept].tolist(), strict=True)
    return {tuple(vector): (picture, age) for vector, picture, age in rows}


@pytest.mark.parametrize("sizes", [(2, 2, 2), (4, 4, 4, 4), (5, 3, 5, 1, 4), (9, 2)])
def test_it_holds_the_newest_vectors_with_their_ages(sizes: tuple[int, ...]) -> None:
    bank, slow = MemoryBank(7, WIDTH), deque[tuple[Tensor, int, int]](maxlen=7)
    for step, vectors in enumerate(batches(*sizes)):
        pictures = torch.arange(len(vectors)) + 100 * step
        bank.append(vectors, pictures)
        slow.extend((vector, int(picture), step) for vector, picture in zip(vectors, pictures, strict=True))
        expected = {
            tuple(F.normalize(vector, dim=0).tolist()): (picture, step - at + 1) for vector, picture, at in slow
        }
        held = content(bank)
        assert sorted(held.values()) == sorted(expected.values()) and len(held) == len(expected)
        for vector, about in held.items():
            nearest = min(expected, key=lambda other: sum((a - b) ** 2 for a, b in zip(vector, other, strict=True)))
            assert vector == pytest.approx(nearest, abs=1e-6) and expected[nearest] == about


def test_what_unwritten_places_hold() -> None:
    assert not MemoryBank(5, WIDTH).kept.any()
    zeros, drawn = MemoryBank(5, WIDTH, "zeros"), MemoryBank(5, WIDTH, "random")
    assert zeros.kept.all() and not zeros.vectors.any()
    assert drawn.kept.all() and (drawn.vectors > 0).all()
    torch.testing.assert_close(drawn.vectors.norm(dim=1), torch.ones(5))
    assert (drawn.pictures == NO_PICTURE).all()


def test_a_growing_bank_loses_nothing_before_it_is_full() -> None:
    bank = MemoryBank(8, WIDTH, grown_from=4)
    first, second, third, fourth, fifth = batches(3, 3, 3, 2, 2)
    bank.append(first, torch.tensor([0, 1, 2]))
    bank.append(second, torch.tensor([3, 4, 5]))
    assert {picture for picture, _ in content(bank).values()} == {2, 3, 4, 5}
    bank.grow(7)
    bank.append(third, torch.tensor([6, 7, 8]))
    assert {picture for picture, _ in content(bank).values()} == {2, 3, 4, 5, 6, 7, 8}
    bank.append(fourth, torch.tensor([9, 10]))  # the two oldest go
    assert {picture for picture, _ in content(bank).values()} == {4, 5, 6, 7, 8, 9, 10}
    bank.grow(100)
    bank.append(fifth, torch.tensor([11, 12]))
    assert len(bank.read()[0]) == 8
    assert {picture for picture, _ in content(bank).values()} == {5, 6, 7, 8, 9, 10, 11, 12}


def test_its_state_dict_is_all_of_it() -> None:
    one, other = MemoryBank(6, WIDTH, grown_from=3), MemoryBank(6, WIDTH, grown_from=3)
    first, second = batches(4, 2)
    one.append(first)
    one.grow(5)
    other.load_state_dict(one.state_dict())
    for bank in (one, other):
        bank.append(second)
    for a, b in zip(one.read(), other.read(), strict=True):
        assert torch.equal(a, b)


def test_the_average_follows_exactly_and_what_is_frozen_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    model[2].requires_grad_(False)
    average = MovingAverage(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2)), 0.9)
    average.model.load_state_dict(model.state_dict())
    expected = model[0].weight.detach().double().clone()
    for step in range(4):
        with torch.no_grad():
            model[0].weight.add_(0.1 * (step + 1))
        average.follow(model)
        expected = 0.9 * expected + 0.1 * model[0].weight.detach().double()
    torch.testing.assert_close(average.model[0].weight.double(), expected, atol=1e-7, rtol=1e-6)
    assert torch.equal(average.model[2].weight, model[2].weight)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not average.train().model[1].training
