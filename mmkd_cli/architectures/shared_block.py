"""What both modalities share in S-SMKE and SHRe: a pre-norm Transformer block with LayerScale, or an MLP.

Source: public repositories TimCares/EV-LP and TimCares/MasterThesis (src/modules/layers.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd_cli.architectures.d2v2 import IMAGE_EPS, init_bert_parameters


class SharedBlock(nn.Module):
    """x = x + ls1 * attn(norm1(x)); x = x + ls2 * mlp(norm2(x)). layer_scale: where ls1, ls2 begin; 0 for none.

    As in BEiT, queries and values have a bias, keys have none.
    """

    def __init__(self, width: int, heads: int, layer_scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=IMAGE_EPS) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj, self.fc1 = nn.Linear(width, width), nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        init_bert_parameters(self)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.layer_scale1, self.layer_scale2 = (
            nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None for _ in range(2)
        )

    def forward(self, x: Tensor, attend: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, L, D]; attend bool [B, L] or None -> [B, L, D], and fc1's output before its activation [B, L, 4 D]."""
        x = x + _scaled(self._attention(self.norm1(x), attend), self.layer_scale1)
        hidden = self.fc1(self.norm2(x))
        said = F.dropout(self.fc2(F.gelu(hidden)), self.dropout, self.training)
        return x + _scaled(said, self.layer_scale2), hidden

    def _attention(self, x: Tensor, attend: Tensor | None) -> Tensor:
        mask = None if attend is None else attend[:, None, None, :]
        dropped = self.dropout if self.training else 0.0
        return self.proj(beit_attention(x, self.qkv.weight, self.q_bias, self.v_bias, self.heads, mask, dropped))


def beit_attention(
    x: Tensor, weight: Tensor, q_bias: Tensor, v_bias: Tensor, heads: int, mask: Tensor | None, dropout: float
) -> Tensor:  # fmt: skip
    """BEiT's self-attention before its output map: x [B, L, D], weight [3 D, D] of queries, keys and values, of which
    keys have no bias; mask: bool, or added to the logits, [B or 1, heads or 1, L or 1, L] -> [B, L, D]."""
    batch, length, width = x.shape
    bias = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    qkv = F.linear(x, weight, bias).view(batch, length, 3, heads, width // heads)
    query, keys, values = qkv.permute(2, 0, 3, 1, 4)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query.dtype)
    mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout)
    return mixed.transpose(1, 2).reshape(batch, length, width)


class SharedMlp(nn.Module):
    """SHRe's: linear, GELU, norm, linear. The head's norm and linear layer follow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(width, 4 * width), nn.LayerNorm(4 * width, eps=IMAGE_EPS)
        self.fc2 = nn.Linear(4 * width, width)
        init_bert_parameters(self)

    def forward(self, x: Tensor, attend: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first token of x [B, L, D] -> [B, 1, D], and fc1's output before its activation [B, 1, 4 D]."""
        hidden = self.fc1(x[:, :1])
        return self.fc2(self.norm(F.gelu(hidden))), hidden


class SharedHidden(nn.Module):
    """The first layer of SHRe's MLP of two: linear, GELU, norm. The head is the second."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(width, 4 * width), nn.LayerNorm(4 * width, eps=IMAGE_EPS)
        init_bert_parameters(self)

    def forward(self, x: Tensor, attend: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first token of x [B, L, D] -> [B, 1, 4 D], and fc1's output before its activation [B, 1, 4 D]."""
        hidden = self.fc1(x[:, :1])
        return self.norm(F.gelu(hidden)), hidden


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else scale * x
