"""Exact image-text retrieval ranks in both directions, without keeping the image x text score matrix.

Rule: a query's rank is 1 + the number of candidates that are not its own and score at least as high as its (best)
own, so a tie counts as wrong. Recall@k is the share of queries of rank <= k (any of a picture's own captions counts).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmkd_cli.core.errors import UserError

RECALL_KS = (1, 5, 10)
IMAGE_BLOCK_ROWS = 256
TEXT_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class RetrievalRanks:
    """Ranks from 1; 0 marks a row that is a candidate but no query (a picture without captions, a text without picture)."""

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
    (4 (n text_block + m image_block) bytes in float32); own scores are read from it, and the same tiles are counted
    later, so that an own score and its rivals never come from two computations that differ in the last bits.
    Raises UserError where rows, widths or picture numbers do not fit or a value is not finite.
    """
    images, texts, text_image = checked_embeddings(images, texts, text_image)
    n, m = len(images), len(texts)
    order = torch.argsort(text_image, stable=True)
    owner = text_image[order]
    own_score = images.new_full((m,), torch.inf)  # of a text without picture: nothing scores as high, the count stays 0
    best_own = images.new_full((n,), -torch.inf)
    image_blocks, text_blocks = even_blocks(n, image_block), even_blocks(m, text_block)

    staircase: dict[tuple[int, int], Tensor] = {}
    for column, text_rows in enumerate(text_blocks):
        block_texts = texts[order[text_rows]].T
        block_owner = owner[text_rows]
        for row, image_rows in enumerate(image_blocks):
            own_text = torch.nonzero((block_owner >= image_rows.start) & (block_owner < image_rows.stop)).squeeze(1)
            if len(own_text) == 0:
                continue
            tile = images[image_rows] @ block_texts
            own_image = block_owner[own_text]
            scores = tile[own_image - image_rows.start, own_text]
            own_score[text_rows.start + own_text] = scores
            best_own.scatter_reduce_(0, own_image, scores, "amax")
            tile[own_image - image_rows.start, own_text] = -torch.inf  # an own pair is nobody's rival
            staircase[row, column] = tile
    best_own[best_own == -torch.inf] = torch.inf

    image_rivals, text_rivals = torch.zeros_like(best_own), torch.zeros_like(own_score)
    for column, text_rows in enumerate(text_blocks):
        block_texts = texts[order[text_rows]].T
        for row, image_rows in enumerate(image_blocks):
            tile = staircase.pop((row, column), None)
            if tile is None:
                tile = images[image_rows] @ block_texts
            # Comparing into the scores' own type sums several times faster than bool does; counts stay exact.
            at_least = torch.empty_like(tile)
            text_rivals[text_rows] += torch.ge(tile, own_score[text_rows], out=at_least).sum(dim=0)
            image_rivals[image_rows] += torch.ge(tile, best_own[image_rows, None], out=at_least).sum(dim=1)

    image_ranks = (image_rivals.long() + 1) * (best_own < torch.inf)
    text_ranks = torch.empty_like(order)
    text_ranks[order] = (text_rivals.long() + 1) * (owner >= 0)
    return RetrievalRanks(image_to_text=image_ranks, text_to_image=text_ranks)
