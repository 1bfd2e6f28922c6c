"""The loss of writing a text, token by token (BART's; VLKD's ICTI is the same beside a picture)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def infilling_per_row(logits: Tensor, labels: Tensor, attention_mask: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """l_b = -1/|y_b| sum_t log p(y_bt). logits [B, L, V], labels int64 [B, L], attention_mask [B, L] -> [B].

    The sum is over all tokens of a row that the mask keeps (at least one). label_smoothing: the share of the target
    that is spread evenly over the V tokens.
    """
    return written_per_row(logits, labels, attention_mask, label_smoothing) / attention_mask.sum(dim=1)


def written_per_row(logits: Tensor, labels: Tensor, attention_mask: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """l_b = -sum_t log p(y_bt): as `infilling_per_row`, and not divided by the row's tokens."""
    if logits.shape[:2] != labels.shape or labels.shape != attention_mask.shape:
        raise ValueError(
            f"logits {list(logits.shape)}, labels {list(labels.shape)} and mask {list(attention_mask.shape)} differ in "
            "infilling: give [B, L, V], [B, L] and [B, L]"
        )
    with torch.autocast(logits.device.type, enabled=False):
        flat = F.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
        )
        mask = attention_mask.to(flat.dtype)
        return (flat.view_as(mask) * mask).sum(dim=1)
