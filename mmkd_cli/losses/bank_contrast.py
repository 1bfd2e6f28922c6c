"""Contrast of a batch's vectors with its own keys and with those that a memory bank kept.

Sources: Cares' thesis and its code (public repository TimCares/MasterThesis, src/modules/losses.py and its history).
N rows of the global batch, K of the bank, D channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Weighing = Literal["log", "logits", "classes"]
"""How a key's weight enters: added to its logit as a logarithm, which weighs it in the softmax's sum; multiplied into
its logit, which also pulls its similarity to 0 (the code of 2024-06-26); as cross-entropy's class weights, which
changes nothing, since every label is a key of the batch and these weigh the same (the code from 2024-06-27 on)."""


def bank_contrast(
    anchors: Tensor, keys: Tensor, bank: Tensor | None, logit_scale: Tensor | float, *,
    left_out: Tensor | None = None, ages: Tensor | None = None, gamma: float = 1.0, weighing: Weighing = "log",
) -> Tensor:  # fmt: skip
    """mean_i CE(s n(a_i) [n(k_1) .. n(k_N), bank]^T, i): anchors, keys [N, D], bank [K, D] normalised -> scalar.

    left_out: bool [N, N + K], keys that are no negatives of a row; never its own. ages: int64 [K], updates since a
    vector was kept, 1 for the newest; with a gamma below 1 a key weighs gamma ** age, those of the batch gamma ** 0.
    No gradient reaches the bank.
    """
    if anchors.shape != keys.shape:
        raise ValueError(
            f"anchors {list(anchors.shape)} and keys {list(keys.shape)} differ in bank_contrast: give both as [N, D]"
        )
    with torch.autocast(anchors.device.type, enabled=False):
        scale = logit_scale.float() if isinstance(logit_scale, Tensor) else logit_scale
        columns = F.normalize(keys.float(), dim=1)
        if bank is not None:
            columns = torch.cat([columns, bank.detach().float()])
        logits = scale * F.normalize(anchors.float(), dim=1) @ columns.T
        labels = torch.arange(len(anchors), device=logits.device)
        if ages is None or gamma == 1.0:
            return F.cross_entropy(_without(logits, left_out), labels)
        log_weights = torch.log(torch.tensor(gamma)) * torch.cat([ages.new_zeros(len(keys)), ages]).float()
        if weighing == "log":
            return F.cross_entropy(_without(logits + log_weights, left_out), labels)
        weights = log_weights.softmax(dim=0)  # gamma ** age over their sum
        if weighing == "logits":
            return F.cross_entropy(_without(logits * weights, left_out), labels)
        return F.cross_entropy(_without(logits, left_out), labels, weight=weights)


def _without(logits: Tensor, left_out: Tensor | None) -> Tensor:
    return logits if left_out is None else logits.masked_fill(left_out, -torch.inf)
