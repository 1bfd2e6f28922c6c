"""Text infilling: one mask a span, at the stated share of the tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd_cli.data.infilling import infilled

MASK = -1


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 60), st.floats(0, 1), st.floats(0.5, 5), st.integers(0, 2**32))
def test_what_stays_is_in_order_and_the_share_is_met(length: int, ratio: float, span: float, seed: int) -> None:
    out = infilled(range(length), MASK, ratio, span, draw(seed))
    kept = [token for token in out if token != MASK]
    assert kept == sorted(kept) and len(set(kept)) == len(kept)
    assert abs((length - len(kept)) - ratio * length) < 1


@pytest.mark.parametrize("ratio", [0.15, 0.3, 0.6])
def test_masked_share_and_spans_on_average(ratio: float) -> None:
    length, texts = 12, 4000
    outs = [infilled(range(length), MASK, ratio, 3.0, draw(seed)) for seed in range(texts)]
    hidden = [length - sum(token != MASK for token in out) for out in outs]
    assert np.mean(hidden) / length == pytest.approx(ratio, abs=0.01)
    every = np.mean([[token not in out for token in range(length)] for out in outs], axis=0)
    assert every == pytest.approx(every[::-1], abs=0.04)  # the arrangement has no direction


def test_a_span_is_one_mask_whatever_its_length() -> None:
    """Long texts: spans hardly ever touch, so that masks are gaps in the numbers; lengths are Poisson's, 0 too."""
    gaps: list[int] = []
    for seed in range(400):
        out = [-2, *infilled(range(2000), MASK, 0.05, 3.0, draw(seed)), 2000]
        for place, token in enumerate(out):
            if token == MASK and MASK not in (out[place - 1], out[place + 1]) and out[place - 1] >= 0:
                gaps.append(out[place + 1] - out[place - 1] - 1)
    poisson = [np.exp(-3.0) * 3.0**k / np.prod(range(1, k + 1)) for k in range(8)]
    seen = np.bincount(gaps, minlength=8)[:8] / len(gaps)
    assert seen == pytest.approx(poisson, abs=0.02)
    assert np.mean(gaps) == pytest.approx(3.0, abs=0.1)


def test_the_same_draws_give_the_same_masks() -> None:
    assert infilled(range(30), MASK, 0.3, 3.0, draw(4)) == infilled(range(30), MASK, 0.3, 3.0, draw(4))
    assert infilled([], MASK, 0.5, 3.0, draw(0)) == [] and infilled([7, 8], MASK, 0.0, 3.0, draw(0)) == [7, 8]
    assert set(infilled(range(9), MASK, 1.0, 3.0, draw(1))) == {MASK}
