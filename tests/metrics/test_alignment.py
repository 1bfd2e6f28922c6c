"""Cosine summaries against all pairs at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkd_cli.metrics import alignment
from mmkd_cli.metrics.alignment import cosine_alignment


def test_summaries_equal_numpy_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "TEXT_BLOCK_ROWS", 13)
    monkeypatch.setattr(alignment, "IMAGE_BLOCK_ROWS", 7)
    torch.manual_seed(0)
    images, texts = torch.randn(40, 6, dtype=torch.float64), torch.randn(90, 6, dtype=torch.float64)
    text_image = torch.randint(-1, 40, (90,))
    cosines = torch.nn.functional.cosine_similarity(texts[:, None], images[None, :], dim=2).numpy()
    own = text_image.numpy()[:, None] == np.arange(40)
    result = cosine_alignment(images, texts, text_image, bins=20)
    assert result.negative is not None
    for summary, pairs in ((result.positive, cosines[own]), (result.negative, cosines[~own])):
        assert summary.pairs == len(pairs) == sum(summary.histogram)
        assert (summary.mean, summary.std) == pytest.approx((pairs.mean(), pairs.std()))
        assert summary.histogram == np.histogram(pairs, bins=20, range=(-1, 1))[0].tolist()


def test_cosine_one_falls_into_the_last_bin_and_a_single_pair_has_no_negatives() -> None:
    row = torch.randn(1, 768)
    result = cosine_alignment(row, 3 * row, torch.tensor([0]), bins=10)
    assert result.negative is None
    assert result.positive.histogram == [0] * 9 + [1]
    assert result.positive.mean == pytest.approx(1, abs=1e-6) and result.positive.std == pytest.approx(0, abs=1e-6)
