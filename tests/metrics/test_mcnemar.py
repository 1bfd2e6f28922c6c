"""McNemar's exact test against tables of coin throws, and scipy's where it is there."""

from __future__ import annotations

from itertools import product

import pytest

from mmkd_cli.metrics.mcnemar import mcnemar_p


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 3), (1, 0), (5, 1), (0, 7), (6, 2)])
def test_equals_all_throws_of_a_fair_coin(gained: int, lost: int) -> None:
    """The share of throws whose rarer side is at least as rare, both sides; 1 where both tails overlap."""
    n = gained + lost
    throws = [sum(sides) for sides in product((0, 1), repeat=n)]
    tail = sum(heads <= min(gained, lost) for heads in throws) / len(throws)
    assert mcnemar_p(gained, lost) == mcnemar_p(lost, gained) == pytest.approx(min(1.0, 2 * tail))


def test_equals_scipy_far_out() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    for gained, lost in ((300, 220), (1500, 1400), (40, 900)):
        assert mcnemar_p(gained, lost) == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-9)
