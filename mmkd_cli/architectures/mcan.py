"""MCAN (Yu et al. 2019, arXiv 1906.10770), the plain one: self-attention on words, words guide attention on cells.

B questions of L words, K cells of C channels, A answers, width D, F of both together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention; every query sees the keys whose mask is true."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Tensor, to: Tensor, mask: Tensor) -> Tensor:
        """x [B, Q, D], to [B, K, D], mask bool [B, K] -> [B, Q, D]."""
        q, k, v = (
            part(of).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part, of in ((self.query, x), (self.key, to), (self.value, to))
        )
        seen = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask[:, None, None, :], dropout_p=self.dropout if self.training else 0.0
        )
        said: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return said


class Layer(nn.Module):
    """Self-attention, with `guided` attention to words after it, then a feed-forward; norms behind each (post-norm)."""

    def __init__(self, width: int, heads: int, dropout: float, guided: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(Attention(width, heads, dropout) for _ in range(1 + guided))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 + guided))
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, words: Tensor | None = None, words_mask: Tensor | None = None) -> Tensor:
        """x [B, N, D] -> [B, N, D]."""
        x = self.norms[0](x + self.drop(self.attentions[0](x, x, mask)))
        if words is not None:
            x = self.norms[1](x + self.drop(self.attentions[1](x, words, words_mask)))
        return self.norms[-1](x + self.drop(self.feed(x)))


class Pool(nn.Module):
    """A weighted sum of rows by an MLP's scores, to the fused width."""

    def __init__(self, width: int, fused: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.out = nn.Linear(width, fused)

    def shares(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, N], their sum 1, nothing where the mask is false."""
        share: Tensor = self.score(x)[..., 0].masked_fill(~mask, -torch.inf).softmax(1)
        return share

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        said: Tensor = self.out((self.shares(x, mask)[..., None] * x).sum(1))
        return said


class Mcan(nn.Module):
    """Words and cells through `layers` layers each, pooled, added, normalised, classified.

    pictures: vectors of a question with each of so many are classified together, by a layer more: one alone would add
    what each picture says, and never compare them.
    """

    def __init__(
        self, words: nn.Embedding, channels: int, answers: int, *, width: int = 512, layers: int = 6, heads: int = 8,
        fused: int = 1024, dropout: float = 0.1, pictures: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.words = words
        self.lstm = nn.LSTM(words.embedding_dim, width, batch_first=True)
        self.cells = nn.Linear(channels, width)
        self.text = nn.ModuleList(Layer(width, heads, dropout, guided=False) for _ in range(layers))
        self.image = nn.ModuleList(Layer(width, heads, dropout, guided=True) for _ in range(layers))
        self.pool_text, self.pool_image = Pool(width, fused, dropout), Pool(width, fused, dropout)
        self.norm, self.answer = nn.LayerNorm(fused), nn.Linear(fused, answers)
        if pictures > 1:
            self.answer = nn.Sequential(nn.Linear(pictures * fused, fused), nn.ReLU(), self.answer)

    def forward(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """ids, mask [B, L], grid [B, K, C], grid_mask bool [B, K] -> logits [B, A]."""
        logits: Tensor = self.answer(self.joint(ids, mask, grid, grid_mask))
        return logits

    def joint(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """What words and cells say together [B, F]."""
        text, image = self._read(ids, mask, grid, grid_mask)
        both: Tensor = self.norm(self.pool_text(text, mask.bool()) + self.pool_image(image, grid_mask))
        return both

    def attention(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """Share of each cell in the pooled picture [B, K]."""
        return self.pool_image.shares(self._read(ids, mask, grid, grid_mask)[1], grid_mask)

    def _read(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> tuple[Tensor, Tensor]:
        words = mask.bool()
        text, image = self.lstm(self.words(ids))[0], self.cells(grid)
        for layer in self.text:
            text = layer(text, words)
        for layer in self.image:
            image = layer(image, grid_mask, text, words)
        return text, image
