"""BEiT-2's pre-norm blocks with an expert a modality, and relative positions of patches and of tokens.

As in VLMo the attention is both modalities' and the feed-forward part is one's own; what a token adds to the attention
of another depends on how far apart they stand. Source: public repository TimCares/MasterThesis,
src/models/mm_data2vec_beit_rpb.py, whose bias of both modalities is VLMo's (microsoft/unilm, vlmo).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import gen_relative_position_index
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd_cli.architectures.d2v2 import IMAGE_EPS, init_bert_parameters
from mmkd_cli.architectures.shared_block import beit_attention

LAYER_SCALE = 0.1
"""Where LayerScale begins in BEiT-2."""


class Expert(nn.Module):
    """A norm, a feed-forward part and its LayerScale: x + ls * mlp(norm(x))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=IMAGE_EPS)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.layer_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        said = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return x + self.layer_scale * F.dropout(said, self.dropout, self.training)


class RelativeBlock(nn.Module):
    """x + ls * attn(norm(x)), then one of its experts. As in BEiT, keys have no bias."""

    def __init__(self, width: int, heads: int, experts: Sequence[str], dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width, eps=IMAGE_EPS)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.experts = nn.ModuleDict({name: Expert(width, dropout) for name in experts})
        init_bert_parameters(self)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.layer_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(self, x: Tensor, expert: str, bias: Tensor) -> Tensor:
        """x [B, L, D]; bias [B or 1, heads, L, L], added to the attention's logits -> [B, L, D]."""
        said = beit_attention(self.norm(x), self.qkv.weight, self.q_bias, self.v_bias, self.heads, bias,
                              self.dropout if self.training else 0.0)  # fmt: skip
        return self.experts[expert](x + self.layer_scale * self.proj(said))


class RelativePositions(nn.Module):
    """What distances add to attention, a table a modality for all blocks: of patches in rows and columns, of a text's
    tokens along the line; the first token, of either, has places of its own."""

    image_index: Tensor
    text_index: Tensor

    def __init__(self, grid: int, max_tokens: int, heads: int) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros((2 * grid - 1) ** 2 + 3, heads))
        self.text = nn.Parameter(torch.zeros(2 * max_tokens, heads))
        index = gen_relative_position_index((grid, grid), class_token=True).view(1 + grid * grid, -1)
        self.register_buffer("image_index", index, persistent=False)
        self.register_buffer("text_index", _text_index(max_tokens), persistent=False)

    def bias(self, modality: str, length: int, attend: Tensor | None = None) -> Tensor:
        """[B or 1, heads, length, length]; attend bool [B, length]: where it is False nothing looks."""
        table, index = (self.image, self.image_index) if modality == "image" else (self.text, self.text_index)
        bias = table[index[:length, :length].to(table.device)].permute(2, 0, 1)[None]
        return bias if attend is None else bias.masked_fill(~attend[:, None, None, :], float("-inf"))


def _text_index(length: int) -> Tensor:
    """[L, L] int64: 2 L - 3 distances of tokens behind the first, then from the first one, to it, and its own."""
    places = torch.arange(length)
    index = places[:, None] - places[None, :] + length - 2
    index[0, :], index[:, 0], index[0, 0] = 2 * length - 3, 2 * length - 2, 2 * length - 1
    return index
