"""Text-text distance minimisation (TTDM) of VLKD (Dai et al. 2022): a student's sentence vector to CLIP's.

The paper's formula could not be read; this one is a second-hand report made exact, its open choices are arguments.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["sum", "mean"]


def text_distance_per_row(
    student: Tensor, teacher: Tensor, *, normalize: bool = True, reduction: Reduction = "sum"
) -> Tensor:
    """||e_b - t_b||^2 of each row. student [B, D], teacher [B, D] -> [B]; no gradient reaches the teacher.

    normalize: bring both to length 1 first; then the sum is 2 - 2 cos, between 0 and 4. reduction: over D.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} differ in text_distance: "
            "give both as [B, D], with a linear map on the student where the widths differ"
        )
    # Only element-wise arithmetic on float32 tensors: autocast has nothing here to lower.
    own, target = student.float(), teacher.detach().float()
    if normalize:
        own, target = F.normalize(own, dim=1), F.normalize(target, dim=1)
    squared = (own - target).square()
    return squared.sum(dim=1) if reduction == "sum" else squared.mean(dim=1)
