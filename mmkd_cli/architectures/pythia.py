"""Pythia v0.1 (Jiang et al. 2018, arXiv 1807.09956) as CLIP-ViL ran it: a question attends to the cells of a grid.

B questions of L words, K cells of C channels, A answers, F of both together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


def hidden(inputs: int, outputs: int) -> nn.Sequential:
    """A linear map whose weight has one norm, then ReLU."""
    return nn.Sequential(weight_norm(nn.Linear(inputs, outputs), dim=None), nn.ReLU())


class Pythia(nn.Module):
    """word vectors [V, w] -> LSTM -> two glimpses of the question -> one of the cells -> product -> answers.

    text: width of the LSTM. wide: of attention and fusion. small: of the answers' text path. pictures: products of a
    question with each of so many are classified together.
    """

    def __init__(
        self, words: nn.Embedding, channels: int, answers: int, *, text: int = 1024, wide: int = 5000, small: int = 300,
        pictures: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.words = words
        self.lstm = nn.LSTM(words.embedding_dim, text, batch_first=True)
        self.glimpses = nn.Sequential(nn.Linear(text, text // 2), nn.ReLU(), nn.Linear(text // 2, 2))
        self.look_image, self.look_text = hidden(channels, wide), hidden(2 * text, wide)
        self.look = nn.Linear(wide, 1)
        self.fuse_image, self.fuse_text = hidden(channels, wide), hidden(2 * text, wide)
        self.by_text = nn.Sequential(hidden(pictures * wide, small), nn.Linear(small, answers))
        self.by_image = nn.Sequential(hidden(pictures * wide, wide), nn.Linear(wide, answers))

    def forward(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """ids, mask [B, L], grid [B, K, C], grid_mask bool [B, K] -> logits [B, A]."""
        return self.answer(self.joint(ids, mask, grid, grid_mask))

    def joint(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """What words and cells say together [B, F]."""
        text = self._read(ids, mask)
        seen = (self._look(text, grid, grid_mask) * grid).sum(1)
        both: Tensor = self.fuse_image(seen) * self.fuse_text(text)
        return both

    def answer(self, joint: Tensor) -> Tensor:
        """[B, pictures * F] -> logits [B, A]."""
        logits: Tensor = self.by_text(joint) + self.by_image(joint)
        return logits

    def attention(self, ids: Tensor, mask: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """Share of each cell [B, K], its sum 1."""
        return self._look(self._read(ids, mask), grid, grid_mask)[..., 0]

    def _read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Both glimpses of the question."""
        states = self.lstm(self.words(ids))[0]
        share = self.glimpses(states).masked_fill(mask[:, :, None] == 0, -torch.inf).softmax(1)
        return torch.einsum("blg,bld->bgd", share, states).flatten(1)

    def _look(self, text: Tensor, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """[B, K, 1]."""
        score = self.look(self.look_image(grid) * self.look_text(text)[:, None])
        return score.masked_fill(~grid_mask[:, :, None], -torch.inf).softmax(1)
