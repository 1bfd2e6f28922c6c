"""The mean of a Transformer's layers as the target of a shallower student's (data2vec's target; Cares' thesis).

Each layer's tokens are normalised over the tokens, channel by channel, and averaged over the layers; where asked the
mean is normalised over its channels, too. B rows, L tokens, D channels; padding takes no part.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5
"""Of both normalisations: torch's default."""


def layer_mean(layers: Iterable[Tensor], attend: Tensor | None = None) -> Tensor:
    """mean_l IN(H_l): layers [B, L, D] each; attend bool [B, L], True where a token is -> float32 [B, L, D].

    IN takes a row's mean and deviation (of the population) of a channel over its tokens. Zeros where padding is.
    """
    total: Tensor | None = None
    count = 0
    for hidden in layers:
        with torch.autocast(hidden.device.type, enabled=False):
            normal = _over_tokens(hidden.float(), attend)
            total = normal if total is None else total + normal
        count += 1
    if total is None:
        raise ValueError("the mean of no layers: give one at least")
    return total / count


def layer_mean_per_token(student: Tensor, teacher: Tensor, *, final_norm: bool) -> Tensor:
    """Squared error of two layer means, averaged over channels: student, teacher [..., D] -> [...].

    final_norm: normalise both over channels first, without scale and shift. No gradient reaches the teacher.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} differ in layer_mean: "
            "they need the same tokens and the same width"
        )
    with torch.autocast(student.device.type, enabled=False):
        said, target = student.float(), teacher.detach().float()
        if final_norm:
            said, target = (F.layer_norm(x, x.shape[-1:], eps=EPS) for x in (said, target))
        return (said - target).square().mean(dim=-1)


def _over_tokens(hidden: Tensor, attend: Tensor | None) -> Tensor:
    if attend is None:
        variance, mean = torch.var_mean(hidden, dim=1, keepdim=True, correction=0)
        return (hidden - mean) * (variance + EPS).rsqrt()
    kept = attend.unsqueeze(-1).to(hidden.dtype)
    count = kept.sum(dim=1, keepdim=True).clamp(min=1)
    centred = (hidden - (hidden * kept).sum(dim=1, keepdim=True) / count) * kept
    return centred * (centred.square().sum(dim=1, keepdim=True) / count + EPS).rsqrt()
