"""The sampler is a function of seed and step; each row comes once an epoch; data sets take turns."""

from __future__ import annotations

import numpy as np
import pytest

from mmkd_cli.core.errors import UserError
from mmkd_cli.training import sampler as module
from mmkd_cli.training.sampler import Sampler, slice_of
from tests.training.linear_student import ArrayFeed


def rows_of_epoch(sampler: Sampler, epoch: int) -> dict[int, list[int]]:
    """Feed -> its rows, in the order in which they come."""
    found: dict[int, list[int]] = {}
    for step in range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch):
        batch = sampler.batch(step)
        assert (batch.epoch, batch.step) == (epoch, step)
        assert batch.size == sum(len(part.rows) for part in batch.parts)
        assert [part.first for part in batch.parts] == [
            sum(len(p.rows) for p in batch.parts[:i]) for i in range(len(batch.parts))
        ]
        for part in batch.parts:
            found.setdefault(part.feed, []).extend(part.rows.tolist())
    return found


@pytest.mark.parametrize("mix", ["concat", "round_robin"])
@pytest.mark.parametrize("sizes", [(50,), (50, 23), (7, 64, 16)])
def test_each_row_comes_once_an_epoch_and_epochs_differ(mix: str, sizes: tuple[int, ...]) -> None:
    feeds = [ArrayFeed(f"f{i}", n) for i, n in enumerate(sizes)]
    sampler = Sampler(feeds, 8, 3, mix, drop_last=False)
    first, second = rows_of_epoch(sampler, 0), rows_of_epoch(sampler, 1)
    for feed, n in enumerate(sizes):
        assert sorted(first[feed]) == sorted(second[feed]) == list(range(n))
        assert first[feed] != second[feed]
        assert first[feed] != list(range(n))


def test_batch_depends_on_nothing_but_seed_and_step() -> None:
    feeds = [ArrayFeed("a", 40), ArrayFeed("b", 33)]
    forward = [Sampler(feeds, 9, 5).batch(step) for step in range(20)]
    sampler = Sampler(feeds, 9, 5)
    for step in reversed(range(20)):
        for one, two in zip(forward[step].parts, sampler.batch(step).parts, strict=True):
            np.testing.assert_array_equal(one.rows, two.rows)
    other = [Sampler(feeds, 9, 6).batch(step).parts[0].rows.tolist() for step in range(3)]
    assert other != [batch.parts[0].rows.tolist() for batch in forward[:3]]


def test_data_sets_take_turns_until_they_are_used_up() -> None:
    feeds = [ArrayFeed("a", 16), ArrayFeed("b", 8), ArrayFeed("c", 12)]
    sampler = Sampler(feeds, 4, 0, "round_robin")
    turns = [sampler.batch(step).parts[0].feed for step in range(sampler.steps_per_epoch)]
    assert turns == [0, 1, 2, 0, 1, 2, 0, 2, 0]
    weighted = Sampler([ArrayFeed("a", 16, 2.0), ArrayFeed("b", 16, 1.0)], 4, 0, "round_robin")
    assert [weighted.batch(step).parts[0].feed for step in range(8)] == [0, 0, 1, 0, 0, 1, 1, 1]


def test_a_weight_says_how_often_an_epoch_sees_a_row_of_concatenated_data() -> None:
    sampler = Sampler([ArrayFeed("a", 20, 2.0), ArrayFeed("b", 20, 0.5)], 10, 0, "concat")
    assert sampler.steps_per_epoch == 5
    first, second = rows_of_epoch(sampler, 0), rows_of_epoch(sampler, 1)
    assert sorted(first[0]) == sorted([*range(20), *range(20)])
    assert len(first[1]) == 10
    assert sorted(first[1] + second[1]) == list(range(20))


@pytest.mark.parametrize("mix", ["concat", "round_robin"])
def test_an_epoch_permutes_each_pass_once(mix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a weight makes an epoch several passes, which each batch draws from; and few are held."""
    made: list[tuple[int, int]] = []
    permutation = module.permutation

    def counted(size: int, seed: int, what: str, feed: int, number: int) -> np.ndarray:
        made.append((feed, number))
        return permutation(size, seed, what, feed, number)

    monkeypatch.setattr(module, "permutation", counted)
    sampler = Sampler([ArrayFeed("a", 20, 3.6), ArrayFeed("b", 30, 0.4)], 10, 0, mix, drop_last=False)
    for epoch in range(3):
        rows_of_epoch(sampler, epoch)
        assert len(sampler._held) <= 5 + 1 + 1  # 3.6 passes touch at most 5; part of one; the order
    whole = max(made.count(one) for one in set(made))
    assert whole <= 2, "a pass that two epochs share may be permuted in each"
    assert len(made) <= 3 * (5 + 2 + 1)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_of_processes_make_up_the_batch(processes: int) -> None:
    sampler = Sampler([ArrayFeed("a", 30), ArrayFeed("b", 30)], 11, 1)
    whole = sampler.batch(2)
    joined: list[tuple[int, int, int]] = []
    for rank in range(processes):
        share = whole.share(*slice_of(whole.size, rank, processes))
        for part in share.parts:
            joined += [(part.feed, int(row), part.first + i) for i, row in enumerate(part.rows)]
    expected = [(p.feed, int(row), p.first + i) for p in whole.parts for i, row in enumerate(p.rows)]
    assert joined == expected


def test_too_few_rows_are_named() -> None:
    with pytest.raises(UserError, match=r"train.batch_size 64 is more than the 20 training rows"):
        Sampler([ArrayFeed("a", 20)], 64, 0)
    with pytest.raises(UserError, match="'empty' has no training rows"):
        Sampler([ArrayFeed("empty", 0)], 64, 0)
