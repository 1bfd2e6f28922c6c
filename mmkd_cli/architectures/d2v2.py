"""data2vec 2.0 (Baevski et al. 2022): its post-norm Transformer for images and for text, without training machinery.

Shapes: B rows, L tokens (the first is the class or begin-of-sentence token), D width. Follows
facebookresearch/fairseq, examples/data2vec (models/data2vec2.py, models/modalities). Checkpoints: d2v2_checkpoints.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

PAD_ID = 1
BOS_ID, EOS_ID, UNK_ID = 0, 2, 3
IMAGE_EPS, TEXT_EPS = 1e-6, 1e-5


@dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder; the defaults are those of the published base models."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    image_size: int = 224
    patch_size: int = 16
    vocabulary: int = 50265
    max_tokens: int = 512


class BlockOutput(NamedTuple):
    """x: a block's output. ffn: its feed-forward part's output before the residual sum, data2vec 2.0's own target."""

    x: Tensor
    ffn: Tensor


class Attention(nn.Module):
    """Self-attention with one matrix for query, key and value, all with bias."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, attend: Tensor | None = None) -> Tensor:
        """x [B, L, D]; attend bool [B, L], True where a token may be looked at -> [B, L, D]."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if attend is None else attend[:, None, None, :]
        mixed = F.scaled_dot_product_attention(
            qkv[0], qkv[1], qkv[2], attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Post-norm block: x = norm1(x + attn(x)); x = norm2(x + mlp(x)).

    dropout: of attention weights, of the attention's output, and after the feed-forward part (the published text
    model trains with 0.1, the image model with 0).
    """

    def __init__(
        self, width: int = 768, heads: int = 12, mlp_width: int = 3072, eps: float = IMAGE_EPS, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attn = Attention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.drop = nn.Dropout(dropout)

        self.recompute = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activations for the backward pass: they are computed again there, dropout included."""
        self.recompute = enable

    def forward(self, x: Tensor, attend: Tensor | None = None, attn: Attention | None = None) -> Tensor:
        """x [B, L, D]; attend bool [B, L] or None; attn: used in the place of its own -> [B, L, D]."""
        return self.both(x, attend, attn).x

    def both(self, x: Tensor, attend: Tensor | None = None, attn: Attention | None = None) -> BlockOutput:
        """The output and the feed-forward part's output, [B, L, D] each."""
        if self.recompute and torch.is_grad_enabled():
            again: BlockOutput = checkpoint(self._both, x, attend, attn, use_reentrant=False)
            return again
        return self._both(x, attend, attn)

    def _both(self, x: Tensor, attend: Tensor | None, attn: Attention | None) -> BlockOutput:
        attn = self.attn if attn is None else attn
        x = self.norm1(x + self.drop(attn(x, attend)))
        ffn = self.mlp(x)
        return BlockOutput(self.norm2(x + self.drop(ffn)), ffn)


class ImageEmbedding(nn.Module):
    """Patches with fixed 2-D sine positions, a class token with none, and a norm over all."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        grid = sizes.image_size // sizes.patch_size
        self.proj = nn.Conv2d(3, sizes.width, sizes.patch_size, sizes.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        positions = sine_positions(grid, sizes.width)
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.norm = nn.LayerNorm(sizes.width, eps=IMAGE_EPS)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> [B, 1 + patches, D]."""
        patches = self.proj(pixels).flatten(2).transpose(1, 2) + self.positions
        return self.norm(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1))


class TextEmbedding(nn.Module):
    """Token and learned position embeddings and a norm. Positions count what is no padding, from PAD_ID + 1."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width, padding_idx=PAD_ID)
        self.positions = nn.Embedding(sizes.max_tokens + PAD_ID + 1, sizes.width, padding_idx=PAD_ID)
        self.norm = nn.LayerNorm(sizes.width, eps=TEXT_EPS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask int64 [B, L] -> [B, L, D]."""
        places = attention_mask.cumsum(1) * attention_mask + PAD_ID
        return self.norm(self.tokens(input_ids) + self.positions(places))


class ImageEncoder(nn.Module):
    """The image model. No norm follows the last block: its class token is already normalised."""

    def __init__(self, sizes: Sizes | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = sizes or Sizes()
        self.sizes = sizes
        self.embed = ImageEmbedding(sizes)
        self.blocks = _blocks(sizes, IMAGE_EPS, dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> [B, 1 + patches, D], the class token first."""
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        return x

    def layers(self, pixels: Tensor) -> Iterator[BlockOutput]:
        """Block after block, the outputs for normalised pixels [B, 3, H, W]."""
        return _layers(self.blocks, self.embed(pixels), None)


class TextEncoder(nn.Module):
    """The text model; token 0, `<s>`, stands for the sentence."""

    def __init__(self, sizes: Sizes | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = sizes or Sizes()
        self.sizes = sizes
        self.embed = TextEmbedding(sizes)
        self.blocks = _blocks(sizes, TEXT_EPS, dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask int64 [B, L] -> [B, L, D]."""
        x = self.embed(input_ids, attention_mask)
        attend = attention_mask.bool()
        for block in self.blocks:
            x = block(x, attend)
        return x

    def layers(self, input_ids: Tensor, attention_mask: Tensor) -> Iterator[BlockOutput]:
        """Block after block, the outputs for input_ids, attention_mask int64 [B, L]."""
        return _layers(self.blocks, self.embed(input_ids, attention_mask), attention_mask.bool())


def _layers(blocks: nn.ModuleList, x: Tensor, attend: Tensor | None) -> Iterator[BlockOutput]:
    for block in blocks:
        said: BlockOutput = block.both(x, attend)
        yield said
        x = said.x


def _blocks(sizes: Sizes, eps: float, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(Block(sizes.width, sizes.heads, sizes.mlp_width, eps, dropout) for _ in range(sizes.depth))


def sine_positions(grid: int, width: int) -> Tensor:
    """[1, grid * grid, width]: sines and cosines of the column, then of the row (MAE's get_2d_sincos_pos_embed)."""
    frequencies = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    places = torch.arange(grid, dtype=torch.float64)
    angles = places[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = line.repeat(grid, 1)
    rows = line.repeat_interleave(grid, dim=0)
    return torch.cat([columns, rows], dim=1)[None].float()


@torch.no_grad()
def init_bert_parameters(module: nn.Module) -> None:
    """fairseq's init_bert_params: linear and embedding weights N(0, 0.02), biases and the padding row 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.normal_(0.0, 0.02)
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.Embedding):
            part.weight.normal_(0.0, 0.02)
            if part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()
