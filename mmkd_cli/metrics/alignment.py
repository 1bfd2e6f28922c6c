"""How far matching pairs of pictures and texts lie from the others: their cosines, summed up block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.metrics.retrieval import IMAGE_BLOCK_ROWS, TEXT_BLOCK_ROWS, checked_embeddings, dot_products, even_blocks


@dataclass(frozen=True)
class CosineSummary:
    """Cosines of a set of pairs: their number, mean, standard deviation (of the population) and counts per bin."""

    pairs: int
    mean: float
    std: float
    histogram: list[int]  # equal bins over [-1, 1]


@dataclass(frozen=True)
class CosineAlignment:
    """Pairs of a text with its own picture, and of a text with any other picture (or, without one, with all)."""

    positive: CosineSummary
    negative: CosineSummary | None  # None where there is no such pair


@torch.no_grad()
def cosine_alignment(images: Tensor, texts: Tensor, text_image: Tensor, *, bins: int = 100) -> CosineAlignment:
    """images [n, d], texts [m, d] (normalised here), text_image [m] as in `retrieval_ranks` -> both summaries.

    Memory is one tile of scores. Sums are float64.
    """
    images, texts, text_image = checked_embeddings(images, texts, text_image)
    images, texts = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    total, positive = (torch.zeros(3 + bins, dtype=torch.float64) for _ in range(2))
    for text_rows in even_blocks(len(texts), TEXT_BLOCK_ROWS):
        owners = text_image[text_rows]
        for image_rows in even_blocks(len(images), IMAGE_BLOCK_ROWS):
            cosines = dot_products(images[image_rows], texts[text_rows]).clamp_(-1, 1)  # rounding leaves no bin behind
            own_text = torch.nonzero((owners >= image_rows.start) & (owners < image_rows.stop)).squeeze(1)
            total += _moments(cosines, bins)
            positive += _moments(cosines[owners[own_text] - image_rows.start, own_text], bins)
    negative = _summary(total - positive) if int(total[0]) > int(positive[0]) else None
    return CosineAlignment(_summary(positive), negative)


def _moments(cosines: Tensor, bins: int) -> Tensor:
    """[count, sum, sum of squares, histogram ...] as float64 on the CPU."""
    sums = torch.stack(
        [cosines.sum(dtype=torch.float64), torch.linalg.vector_norm(cosines, dtype=torch.float64).square()]
    ).cpu()
    counts = torch.histc(cosines, bins, -1, 1).double().cpu()
    return torch.cat([torch.tensor([float(cosines.numel())], dtype=torch.float64), sums, counts])


def _summary(moments: Tensor) -> CosineSummary:
    count, first, second, *histogram = moments.tolist()
    mean = first / count
    variance = max(second / count - mean * mean, 0.0)
    return CosineSummary(int(count), mean, variance**0.5, [int(value) for value in histogram])
