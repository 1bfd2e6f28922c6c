"""The speaker of R2R-EnvDrop: what instruction somebody would give for a walk that is seen.

Two LSTMs read the ways that were taken and what was around; a third one writes. B walks, T steps, L words, V of them in
all; F features of a view, H of the states.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmkd_cli.architectures.envdrop import SoftDot


class Attended(nn.Module):
    """tanh(W [what is attended to; the query]), as Luong et al. 2015 have it."""

    def __init__(self, query: int, width: int) -> None:
        super().__init__()
        self.attention = SoftDot(query, width)
        self.out = nn.Linear(query + width, query, bias=False)

    def forward(self, queries: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, Q] of queries [B, Q], values [B, n, W] and mask bool [B, n]."""
        mixed: Tensor = self.out(torch.cat([self.attention(queries, values, mask), queries], -1)).tanh()
        return mixed


class SpeakerNet(nn.Module):
    """seen: features of a view, picture and angles."""

    def __init__(self, words: int, seen: int, word_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.ways = nn.LSTM(seen, width // 2, batch_first=True, bidirectional=True)
        self.look = Attended(width, seen)
        self.walk = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.embedding = nn.Embedding(words, word_width, padding_idx=0)
        self.lstm = nn.LSTM(word_width, width, batch_first=True)
        self.recall = Attended(width, width)
        self.said = nn.Linear(width, words)
        self.dropout = nn.Dropout(dropout)

    def watch(self, ways: Tensor, views: Tensor, mask: Tensor) -> Tensor:
        """States [B, T, H] of walks: ways [B, T, F] that were taken (nothing where one stops), views [B, T, 36, F],
        mask bool [B, T]."""
        lengths = mask.sum(1).cpu()
        states = self.dropout(_read(self.ways, ways, lengths))
        rows, steps, width = states.shape
        looked = self.look(states.reshape(rows * steps, width), views.reshape(rows * steps, *views.shape[2:]))
        return self.dropout(_read(self.walk, self.dropout(looked.view(rows, steps, width)), lengths))

    def forward(
        self, watched: Tensor, mask: Tensor, ids: Tensor, memory: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Scores float32 [B, L, V] of what follows each word, ids int64 [B, L], and the LSTM's memory behind them."""
        states, memory = self.lstm(self.dropout(self.embedding(ids)), memory)
        rows, length, width = states.shape
        every = self.dropout(states).reshape(rows * length, width)
        where = watched.repeat_interleave(length, 0), mask.repeat_interleave(length, 0)
        scores = self.said(self.dropout(self.recall(every, *where))).float()
        return scores.view(rows, length, -1), memory


def _read(lstm: nn.LSTM, values: Tensor, lengths: Tensor) -> Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=values.shape[1])
    return states
