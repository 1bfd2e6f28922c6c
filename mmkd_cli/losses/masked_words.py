"""Masked language modelling (BERT): which tokens are hidden, and what is lost on them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -1
"""Label of a token that is not asked for."""


def masked(
    ids: np.ndarray, free: np.ndarray, random: np.random.Generator, *, ratio: float, mask: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """A text's ids [L] with some hidden, and labels [L]: the token itself where it is asked for, else IGNORED.

    Each free token is asked for with probability `ratio`; of those 80 % become `mask`, 10 % a random token of the
    vocabulary, 10 % stay (Devlin et al. 2019, 3.1).
    """
    draw, other = random.random((2, len(ids)))
    asked = free & (draw < ratio)
    labels = np.where(asked, ids, IGNORED)
    hidden = ids.copy()
    hidden[asked & (other < 0.8)] = mask
    swapped = asked & (other >= 0.8) & (other < 0.9)
    hidden[swapped] = random.integers(vocabulary, size=int(swapped.sum()))
    return hidden, labels


def masked_word_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each token that is asked for, float32 [M]. logits [M, V] of those tokens, labels [M]."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def asked_for(labels: Tensor) -> Tensor:
    """bool, of the labels' shape."""
    return torch.ne(labels, IGNORED)
