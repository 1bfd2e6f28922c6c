"""Average median rank (AMR) over folds of a thousand pictures, in both directions.

Source: the "Multimodal Knowledge Distillation" thesis (public repository TimCares/MasterThesis), after SHRe
(arXiv 1706.00932): the test pictures in order are cut into folds of 1,000; for each caption slot c the c-th caption
of every picture is retrieved among the slot's captions, and the picture among the fold's; the median rank is averaged
over slots, then over folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmkd_cli.metrics.retrieval import checked_embeddings, dot_products
from mmkd_cli.metrics.retrieval_scores import median_rank

FOLD_IMAGES = 1000
CAPTION_SLOTS = 5


@dataclass(frozen=True)
class AverageMedianRank:
    """AMR from 1 in both directions, and what it was averaged over."""

    image_to_text: float
    text_to_image: float
    folds: int
    fold_images: int

    def scores(self) -> dict[str, float]:
        return {"image_to_text_amr": self.image_to_text, "text_to_image_amr": self.text_to_image}


@torch.no_grad()
def average_median_rank(
    images: Tensor,
    texts: Tensor,
    text_image: Tensor,
    *,
    image_order: Tensor | None = None,
    fold_images: int = FOLD_IMAGES,
) -> AverageMedianRank:
    """AMR by dot product. images [n, d], texts [m, d], text_image [m] as in `retrieval_ranks`.

    image_order: rows of pictures in the order in which folds are cut (the papers': by id); by default as stored.
    Pictures without captions are left out first. Whole folds only: what is left after the last is not scored; with
    fewer pictures than a fold there is one fold of all. Slots are those that every picture of the fold has, at most
    five. A tie counts as wrong, as in `retrieval_ranks`.
    """
    images, texts, text_image = checked_embeddings(images, texts, text_image)
    by_image = torch.argsort(text_image, stable=True)  # a picture's captions side by side, in their stored order
    counts = torch.bincount(text_image[text_image >= 0], minlength=len(images))
    first = len(texts) - counts.flip(0).cumsum(0).flip(0)  # where each picture's captions begin in by_image
    order = torch.arange(len(images), device=images.device) if image_order is None else image_order.to(images.device)
    order = order[counts[order] > 0]
    size = min(fold_images, len(order))
    folds = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    medians = [_fold_medians(images[fold], texts, by_image, first[fold], int(counts[fold].min())) for fold in folds]
    image_to_text, text_to_image = torch.tensor(medians, dtype=torch.float64).mean(dim=0).tolist()
    return AverageMedianRank(image_to_text, text_to_image, folds=len(folds), fold_images=size)


def _fold_medians(images: Tensor, texts: Tensor, by_image: Tensor, first: Tensor, captions: int) -> tuple[float, float]:
    """Median ranks (image to text, text to image) of one fold, averaged over its caption slots."""
    slots = min(CAPTION_SLOTS, captions)
    image_to_text = text_to_image = 0.0
    for slot in range(slots):
        scores = dot_products(images, texts[by_image[first + slot]])
        own = scores.diagonal()
        # The own pair scores as high as itself, which is the 1 that ranks start from.
        image_to_text += median_rank((scores >= own[:, None]).sum(dim=1))
        text_to_image += median_rank((scores >= own[None, :]).sum(dim=0))
    return image_to_text / slots, text_to_image / slots
