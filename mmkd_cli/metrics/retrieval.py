"""Exact image-text retrieval ranks in both directions, without keeping the image x text score matrix.

Rule: a query's rank is 1 + the number of candidates that are not its own and score at least as high as its (best)
own, so a tie counts as wrong. Recall@k is the share of queries of rank <= k (any of a picture's own captions counts).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mmkd_cli.core.errors import UserError

RECALL_KS = (1, 5, 10)
IMAGE_BLOCK_ROWS = 256
TEXT_BLOCK_ROWS = 512


@dataclass(frozen=True)
class RetrievalRanks:
    """Ranks from 1; 0 marks a candidate that is no query (a picture without captions, a text without picture)."""

    image_to_text: Tensor  # [n] int64, one a picture
    text_to_image: Tensor  # [m] int64, one a caption

    def directions(self) -> Iterator[tuple[str, Tensor]]:
        """The names that metrics carry, with the ranks of the queries of that direction."""
        yield "image_to_text", self.image_to_text[self.image_to_text > 0]
        yield "text_to_image", self.text_to_image[self.text_to_image > 0]


@torch.no_grad()
def retrieval_ranks(
    images: Tensor,
    texts: Tensor,
    text_image: Tensor,
    *,
    image_block: int = IMAGE_BLOCK_ROWS,
    text_block: int = TEXT_BLOCK_ROWS,
) -> RetrievalRanks:
    """Ranks by dot product. images [n, d], texts [m, d], text_image [m] (each text's picture, or -1) -> ranks.

    Pass L2-normalised rows for cosine. Scores are float64 if an input is, else float32. Each score is computed once:
    with the texts sorted by picture, all own pairs lie on a staircase of tiles, which is computed first and kept
    (about 4 (n text_block + m image_block) bytes); own scores are read from it, and the same tiles are counted
    later, so that an own score and its rivals never come from two computations that differ in the last bits.
    Raises UserError where rows, widths or picture numbers do not fit or a value is not finite.
    """
    images, texts, text_image = checked_embeddings(images, texts, text_image)
    n, m = len(images), len(texts)
    owner, order = text_image.sort(stable=True)
    if not torch.equal(owner, text_image):
        texts = texts[order]
    own_score = images.new_full((m,), torch.inf)  # of a text without picture: nothing scores as high, the count stays 0
    best_own = images.new_full((n,), -torch.inf)
    image_blocks, text_blocks = even_blocks(n, image_block), even_blocks(m, text_block)

    staircase: dict[tuple[int, int], Tensor] = {}
    for column, text_rows in enumerate(text_blocks):
        owners = owner[text_rows]
        for row, image_rows in enumerate(image_blocks):
            own_text = torch.nonzero((owners >= image_rows.start) & (owners < image_rows.stop)).squeeze(1)
            if len(own_text) == 0:
                continue
            own_image = owners[own_text]
            tile = dot_products(images[image_rows], texts[text_rows])
            scores = tile[own_image - image_rows.start, own_text]
            own_score[text_rows.start + own_text] = scores
            best_own.scatter_reduce_(0, own_image, scores, "amax")
            tile[own_image - image_rows.start, own_text] = -torch.inf  # an own pair is nobody's rival
            staircase[row, column] = tile
    best_own[best_own == -torch.inf] = torch.inf

    image_rivals, text_rivals = torch.zeros_like(best_own, dtype=torch.long), torch.zeros_like(order)
    # Fresh memory for every tile would cost as much in page faults as its comparisons do.
    fresh_scores, comparisons = images.new_empty(2, image_block * text_block)
    for column, text_rows in enumerate(text_blocks):
        for row, image_rows in enumerate(image_blocks):
            shape = (image_rows.stop - image_rows.start, text_rows.stop - text_rows.start)
            if (row, column) in staircase:
                tile = staircase[row, column]
            else:
                tile = fresh_scores[: shape[0] * shape[1]].view(shape)
                dot_products(images[image_rows], texts[text_rows], out=tile)
            # Comparisons written as floats sum several times faster than bools; a tile's counts are exact in them.
            at_least = comparisons[: shape[0] * shape[1]].view(shape)
            text_rivals[text_rows] += torch.ge(tile, own_score[text_rows], out=at_least).sum(dim=0).long()
            image_rivals[image_rows] += torch.ge(tile, best_own[image_rows, None], out=at_least).sum(dim=1).long()

    image_ranks = (image_rivals + 1) * (best_own < torch.inf)
    text_ranks = torch.empty_like(order)
    text_ranks[order] = (text_rivals + 1) * (owner >= 0)
    return RetrievalRanks(image_to_text=image_ranks, text_to_image=text_ranks)


def dot_products(images: Tensor, texts: Tensor, out: Tensor | None = None) -> Tensor:
    """images [n, d], texts [m, d] -> scores [n, m] in their own precision, whatever autocast surrounds the call."""
    with torch.autocast(images.device.type, enabled=False):
        return torch.mm(images, texts.T, out=out)


def checked_embeddings(images: Tensor, texts: Tensor, text_image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, in one float type (float64 if an input is, else float32) and int64, or UserError if they do not fit."""
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or 0 in (*images.shape, *texts.shape):
        raise UserError(
            f"image {list(images.shape)} and text {list(texts.shape)} embeddings cannot be compared: "
            "give [n, d] and [m, d] of one width, neither empty"
        )
    if text_image.shape != (len(texts),) or text_image.is_floating_point() or text_image.dtype == torch.bool:
        raise UserError(
            f"text_image is {text_image.dtype} {list(text_image.shape)} for {len(texts)} texts: "
            "give an integer [m], the image row of each text"
        )
    low, high = int(text_image.min()), int(text_image.max())
    if low < -1 or high >= len(images) or high < 0:
        raise UserError(
            f"text_image holds rows {low} to {high} of {len(images)} images: "
            "give rows from 0 (-1 for a text without image), at least one of them with an image"
        )
    double = torch.float64 in (images.dtype, texts.dtype)
    images, texts = (part.to(torch.float64 if double else torch.float32) for part in (images, texts))
    # Cauchy-Schwarz: no score is larger than this bound, which is also inf or nan wherever a value is.
    bound = images.norm(dim=1).max() * texts.norm(dim=1).max()
    if not bool(bound < torch.finfo(images.dtype).max):
        raise UserError(
            "the image or text embeddings hold NaN, infinite or overflowing values: look for the rows that are not "
            "finite, and make them again"
        )
    return images, texts, text_image.to(images.device, torch.long)


def even_blocks(rows: int, block_rows: int) -> list[slice]:
    """Cut range(rows), rows > 0, into blocks of at most block_rows whose sizes differ by at most one.

    Even, since a last block of a single row would be multiplied by another kernel, and equal rows might not tie.
    """
    n_blocks = -(-rows // block_rows)
    edges = [rows * k // n_blocks for k in range(n_blocks + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
