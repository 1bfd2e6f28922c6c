"""The agent of R2R-EnvDrop (Tan, Yu and Bansal 2019, arXiv 1904.04195), which CLIP-ViL takes for its navigation.

An LSTM reads the instruction both ways; another one walks: it attends to the 36 views around it, then to the words, and
chooses among the ways that lead on and stopping, whose score is 0. What recurs is the attended state, not the LSTM's
own. B walks, L words, M ways; D channels of a view's picture, A of its angles, H of the states.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Read(NamedTuple):
    """An instruction: states [B, L, H] of its words, mask bool [B, L], and the walk's first state and cells [B, H]."""

    states: Tensor
    mask: Tensor
    state: Tensor
    cells: Tensor

    def at(self, places: Tensor) -> Read:
        """Rows by their places."""
        return Read(*(value[places] for value in self))


class Reader(nn.Module):
    """The instruction's encoder."""

    def __init__(self, words: int, word_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_width, padding_idx=0)
        self.lstm = nn.LSTM(word_width, width // 2, batch_first=True, bidirectional=True)
        self.begin = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, mask: Tensor) -> Read:
        """ids, mask int64 [B, L], each row with a word at least."""
        lengths = mask.sum(1).cpu()
        packed = pack_padded_sequence(
            self.dropout(self.embedding(ids)), lengths, batch_first=True, enforce_sorted=False
        )
        states, (_, cells) = self.lstm(packed)
        states = pad_packed_sequence(states, batch_first=True, total_length=ids.shape[1])[0]
        there = mask.bool()
        most = states.masked_fill(~there[..., None], -torch.inf).amax(1)
        return Read(self.dropout(states), there, self.begin(most).tanh(), torch.cat([*cells], -1))


class SoftDot(nn.Module):
    """Attention by the product of a mapped query and what is attended to (Luong et al. 2015)."""

    def __init__(self, query: int, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(query, width, bias=False)

    def scores(self, query: Tensor, values: Tensor) -> Tensor:
        """[B, n] of query [B, Q] and values [B, n, W]."""
        return torch.einsum("bnw,bw->bn", values, self.map(query))

    def forward(self, query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, W]. mask bool [B, n]: what may be attended to."""
        scores = self.scores(query, values)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return torch.einsum("bn,bnw->bw", scores.softmax(1), values)


class Walker(nn.Module):
    """The decoder of actions."""

    def __init__(self, channels: int, angles: int, width: int, action_width: int, dropout: float) -> None:
        super().__init__()
        seen = channels + angles
        self.action = nn.Linear(angles, action_width)
        self.look = SoftDot(width, seen)
        self.lstm = nn.LSTMCell(action_width + seen, width)
        self.recall = SoftDot(width, width)
        self.attended = nn.Linear(2 * width, width, bias=False)
        self.choose = SoftDot(width, seen)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, read: Read, state: Tensor, cells: Tensor, facing: Tensor, views: Tensor, ways: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A step of B walks: scores float32 [B, M + 1] of the ways and of stopping, -inf of what is not allowed; the
        next state and cells [B, H]; and the LSTM's own state [B, H], which a critic reads.

        facing [B, A]; views [B, 36, D + A]; ways [B, M, D + A]; allowed bool [B, M + 1].
        """
        action = self.dropout(self.action(facing).tanh())
        seen = self.look(self.dropout(state), views)
        hidden, cells = self.lstm(torch.cat([action, seen], 1), (state, cells))
        hidden_dropped = self.dropout(hidden)
        recalled = self.recall(hidden_dropped, read.states, read.mask)
        state = self.attended(torch.cat([recalled, hidden_dropped], 1)).tanh()
        scores = F.pad(self.choose.scores(self.dropout(state), ways).float(), (0, 1))
        return scores.masked_fill(~allowed, -torch.inf), state, cells, hidden


class Critic(nn.Sequential):
    """What a walk is still worth, float32 [B, 1], of the LSTM's states [B, H]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))
