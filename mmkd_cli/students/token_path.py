"""A second way into CLIP's text tower: a language model's tokens, and its vocabulary at the other end.

Positions, blocks and last norm are the text tower's own. The embedding table of the other vocabulary is the output
head, too, and starts from CLIP's: each token is the mean of the pieces that CLIP's tokenizer cuts its text into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.architectures.clip_models import ClipModel, attention_bias
from mmkd_cli.core.contracts import Tokenize

_AT_ONCE = 1024


class TokenPath(nn.Module):
    """table: [V, W], of the other vocabulary. causal: whether a token sees only those before it."""

    def __init__(self, table: Tensor, causal: bool) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.causal = causal

    def forward(self, library: ClipModel, clip: Any, ids: Tensor, attention_mask: Tensor, places: Tensor) -> Tensor:
        """ids, attention_mask int64 [B, L], places bool [B, L] -> logits [T, V] at the T places, in order."""
        bias = attention_bias(attention_mask, self.causal)
        states = library.run_text_blocks(clip, F.embedding(ids, self.table), bias)
        return states[places] @ self.table.T


def token_texts(tokenizer: Any, size: int) -> list[str]:
    """What each of `size` ids says; of special tokens, and of ids beyond the tokenizer's, nothing."""
    special = set(tokenizer.all_special_ids)
    known = [number for number in range(min(size, len(tokenizer))) if number not in special]
    texts = [""] * size
    for number, text in zip(known, tokenizer.batch_decode([[number] for number in known]), strict=True):
        texts[number] = text.strip().removeprefix("##")  # WordPiece's mark of a word's later part
    return texts


@torch.no_grad()
def mean_of_pieces(texts: Sequence[str], tokenize: Tokenize, embeddings: Tensor) -> Tensor:
    """The mean embedding of each text's pieces, without the tokenizer's ends; of no text the table's mean: [V, W].

    embeddings: CLIP's table. Its tokenizer gives input_ids and attention_mask.
    """
    empty = tokenize([""])
    ends = empty["input_ids"][empty["attention_mask"].bool()].unique()
    rows = []
    for first in range(0, len(texts), _AT_ONCE):
        coded = tokenize(texts[first : first + _AT_ONCE])
        ids = coded["input_ids"]
        kept = (coded["attention_mask"].bool() & ~torch.isin(ids, ends)).float()
        counts = kept.sum(dim=1, keepdim=True)
        # [texts, pieces, W] only for the pieces there are
        longest = max(1, int(kept.cumsum(1).argmax(1).max()) + 1)
        summed = (F.embedding(ids[:, :longest], embeddings) * kept[:, :longest, None]).sum(dim=1)
        rows.append(torch.where(counts > 0, summed / counts.clamp(min=1), embeddings.mean(dim=0)))
    return torch.cat(rows)
