"""Views: a pure function of (seed, split, row, view), within their ranges, spread as torchvision's are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd_cli.data.views import ViewSpec, view

SPEC = ViewSpec(brightness=0.4, contrast=0.3, saturation=0.2)
PINNED = [0.21219398082130383, 0.09795281326380272, 0.7205742970672242, 0.5920479957812781]


def test_views_depend_on_all_four_and_on_nothing_else() -> None:
    first = view(SPEC, 3, "train", 17, 2)
    assert first == view(SPEC, 3, "train", np.int64(17), np.int64(2))
    others = [view(SPEC, 4, "train", 17, 2), view(SPEC, 3, "val", 17, 2), view(SPEC, 3, "train", 18, 2),
              view(SPEC, 3, "train", 17, 3)]  # fmt: skip
    assert len({(v.left, v.top, v.width) for v in [first, *others]}) == 5


def test_views_are_pinned() -> None:
    """A cache made by an earlier release must meet the same crops."""
    found = view(ViewSpec(), 0, "train", 0, 0)
    values = [found.left, found.top, found.width, found.height]
    assert values == pytest.approx(PINNED, abs=1e-12)


@given(st.integers(0, 2**31), st.integers(0, 10**9), st.integers(0, 100))
def test_crops_lie_in_the_picture(seed: int, row: int, number: int) -> None:
    v = view(SPEC, seed, "train", row, number)
    assert v.left >= 0 and v.left + v.width <= 1 + 1e-12 and v.top >= 0 and v.top + v.height <= 1 + 1e-12
    assert 0.08 - 1e-9 <= v.width * v.height <= 1 and 0.74 < v.width / v.height < 1.34
    assert 0.6 <= v.brightness <= 1.4 and 0.7 <= v.contrast <= 1.3 and 0.8 <= v.saturation <= 1.2


def test_draws_are_spread() -> None:
    views = [view(SPEC, 0, "train", row, 0) for row in range(2000)]
    assert 0.45 < np.mean([v.flip for v in views]) < 0.55
    assert np.mean([v.brightness for v in views]) == pytest.approx(1.0, abs=0.02)
    areas = [v.width * v.height for v in views]
    assert min(areas) < 0.12 and max(areas) > 0.85 and 0.4 < np.mean(areas) < 0.56


def test_whole_picture_when_asked() -> None:
    v = view(ViewSpec(scale_min=1.0, ratio_min=1.0, ratio_max=1.0, flip=0.0), 0, "train", 5, 0)
    assert (v.left, v.top, v.width, v.height, v.flip) == (0, 0, 1, 1, False)
