"""The symmetric contrastive loss of images and captions (InfoNCE, as in CLIP, arXiv 2103.00020, figure 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce_per_row(
    image: Tensor, text: Tensor, logit_scale: Tensor | float, image_ids: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE of each pair of a gathered batch. image [N, D], text [N, D] -> [N].

    With a, b the L2-normalised rows and s the scale, l_i = 1/2 (CE(s a_i b^T, i) + CE(s b_i a^T, i)).

    logit_scale: the factor s > 0 itself, that is `exp` of the learned logarithm (as open_clip's losses take it).
    image_ids [N], integers: pairs that share an id show the same picture, and are left out of each other's
    negatives; without ids every other row is a negative.
    """
    if image.ndim != 2 or image.shape != text.shape:
        raise ValueError(
            f"image {list(image.shape)} and text {list(text.shape)} differ in info_nce: "
            "give both as [N, D], projected to one width, row i of each the same pair"
        )
    with torch.autocast(image.device.type, enabled=False):
        scale = logit_scale.float() if isinstance(logit_scale, Tensor) else logit_scale
        logits = scale * F.normalize(image.float(), dim=1) @ F.normalize(text.float(), dim=1).T
        if image_ids is not None:
            logits = logits.masked_fill(same_picture_pairs(image_ids), -torch.inf)
        own = logits.diagonal()
        return (logits.logsumexp(dim=1) + logits.logsumexp(dim=0)) / 2 - own


def info_nce(image: Tensor, text: Tensor, logit_scale: Tensor | float, image_ids: Tensor | None = None) -> Tensor:
    """The mean of `info_nce_per_row` over the batch. image [N, D], text [N, D] -> scalar."""
    return info_nce_per_row(image, text, logit_scale, image_ids).mean()


def same_picture_pairs(image_ids: Tensor) -> Tensor:
    """The pairs (i, j), i != j, of one picture: false negatives of each other. image_ids [N] -> bool [N, N]."""
    same = image_ids[:, None] == image_ids[None, :]
    return same & ~torch.eye(len(image_ids), dtype=torch.bool, device=image_ids.device)
