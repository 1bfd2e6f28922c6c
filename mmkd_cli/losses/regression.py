"""Regression of a frozen teacher's CLS vector by a student of either modality (MM-D2V2).

Source: public repository TimCares/MasterThesis, src/models/mm_data2vec_beit.py: the training loss is the unweighted
sum over modalities of `mse(z, t)`, where t is the teacher's CLS of the image, also for the caption's student.
"""

from __future__ import annotations

from torch import Tensor


def cls_regression_per_row(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error to the teacher's CLS, averaged over its D dimensions. student [B, D], teacher [B, D] -> [B].

    Equation: l_b = 1/D sum_d (z_bd - t_bd)^2. The mean of l over a batch is the paper's mse; rows are kept apart so
    that accumulated and distributed batches can be averaged exactly. No gradient reaches the teacher.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} differ in cls_regression: "
            "give both as [B, D], with a linear head on the student where the widths differ"
        )
    # Only element-wise arithmetic on float32 tensors: autocast has nothing here to lower.
    return (student.float() - teacher.detach().float()).square().mean(dim=1)
