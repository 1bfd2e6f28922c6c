"""Distillation of a classifier's whole distribution (Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_label_kl_per_row(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p || q) with p = softmax(teacher), q = softmax(student): logits [B, C], [B, C] -> [B].

    SHRe's temperature is 1. The mean over rows is torch's `batchmean`. No gradient reaches the teacher.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} differ in soft_label_kl: "
            "give the logits of both as [B, C]"
        )
    with torch.autocast(student.device.type, enabled=False):
        log_p, log_q = teacher.detach().float().log_softmax(dim=1), student.float().log_softmax(dim=1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=1)
