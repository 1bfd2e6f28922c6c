"""The learned temperature of contrastive losses, kept as a logarithm (CLIP, arXiv 2103.00020, section 2.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAX_LOG_SCALE = math.log(100)


def new_logit_scale(log_scale: float = INITIAL_LOG_SCALE) -> nn.Parameter:
    """A learnable scalar [] tau in float32; `tau.exp()` is the factor that the losses take as `logit_scale`."""
    return nn.Parameter(torch.tensor(log_scale, dtype=torch.float32))


@torch.no_grad()
def clamp_logit_scale_(log_scale: Tensor, maximum: float = MAX_LOG_SCALE) -> None:
    """Bound tau [] to [0, maximum] in place, after an optimiser step; ln(100) is CLIP's bound."""
    log_scale.clamp_(0.0, maximum)
