"""Target-CMLI: each word of a caption learns the teacher's patch that it is most like (variant V of Cares' thesis).

Source: public repository TimCares/MasterThesis, src/modules/cmli.py, of 2024-09: means where the thesis writes sums.
B rows, L tokens of a text, P patches, E channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def word_patch_per_row(words: Tensor, patches: Tensor, attend: Tensor) -> Tensor:
    """mean_j |w_j - p_m(j)|^2 / E with m(j) = argmax_k cos(w_j, p_k): words [B, L, E], patches [B, P, E] -> [B].

    attend: bool [B, L], the words that count; 0 where a row has none. Gradient reaches words and patches (both went
    through one learned map), and not the choice.
    """
    if words.shape[::2] != patches.shape[::2] or attend.shape != words.shape[:2]:
        raise ValueError(
            f"words {list(words.shape)}, patches {list(patches.shape)} and attend {list(attend.shape)} differ in "
            "word_patch: give [B, L, E], [B, P, E], [B, L]"
        )
    with torch.autocast(words.device.type, enabled=False):
        words, patches = words.float(), patches.float()
        with torch.no_grad():
            alike = F.normalize(words, dim=2) @ F.normalize(patches, dim=2).transpose(1, 2)
            best = alike.argmax(dim=2, keepdim=True).expand(-1, -1, patches.shape[2])
        error = (words - patches.gather(1, best)).square().mean(dim=2) * attend
        return error.sum(dim=1) / attend.sum(dim=1).clamp(min=1)


def patch_regression_per_row(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error patch by patch, averaged over patches and channels: [B, P, E], [B, P, E] -> [B]. No gradient
    reaches the teacher."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} differ in patch_regression: both need "
            "the same patches and the same width"
        )
    with torch.autocast(student.device.type, enabled=False):
        return (student.float() - teacher.detach().float()).square().mean(dim=(1, 2))
