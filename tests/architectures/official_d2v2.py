"""Random data2vec 2.0 checkpoints in the names and shapes that fairseq wrote, and its forward in plain functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _blocks(depth: int, width: int, hidden: int, draw: Any) -> dict[str, Tensor]:
    state = {}
    for i in range(depth):
        state |= {
            f"blocks.{i}.norm1.weight": 1 + draw(width),
            f"blocks.{i}.norm1.bias": draw(width),
            f"blocks.{i}.attn.qkv.weight": draw(3 * width, width),
            f"blocks.{i}.attn.qkv.bias": draw(3 * width),
            f"blocks.{i}.attn.proj.weight": draw(width, width),
            f"blocks.{i}.attn.proj.bias": draw(width),
            f"blocks.{i}.norm2.weight": 1 + draw(width),
            f"blocks.{i}.norm2.bias": draw(width),
            f"blocks.{i}.mlp.fc1.weight": draw(hidden, width),
            f"blocks.{i}.mlp.fc1.bias": draw(hidden),
            f"blocks.{i}.mlp.fc2.weight": draw(width, hidden),
            f"blocks.{i}.mlp.fc2.bias": draw(width),
        }
    return state


def image_state(depth: int = 2, width: int = 128, grid: int = 2, patch: int = 16, seed: int = 0,
                device: str = "cpu") -> dict[str, Tensor]:  # fmt: skip
    """Key layout of base_imagenet.pt (depth 12, width 768, grid 14 there)."""
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device) * 0.1

    encoder = "modality_encoders.IMAGE"
    return {
        f"{encoder}.extra_tokens": draw(1, 1, width),
        f"{encoder}.local_encoder.proj.weight": draw(width, 3, patch, patch),
        f"{encoder}.local_encoder.proj.bias": draw(width),
        f"{encoder}.fixed_positional_encoder.positions": draw(1, grid * grid, width),
        f"{encoder}.context_encoder.norm.weight": 1 + draw(width),
        f"{encoder}.context_encoder.norm.bias": draw(width),
        f"{encoder}.decoder.blocks.0.0.weight": draw(4, 4),
        f"{encoder}.decoder.proj.weight": draw(4, 4),
        "_ema": draw(3),
        **_blocks(depth, width, 4 * width, draw),
    }


def text_state(depth: int = 2, width: int = 128, vocabulary: int = 300, positions: int = 34, seed: int = 0,
               device: str = "cpu") -> dict[str, Tensor]:  # fmt: skip
    """Key layout of nlp_base.pt (depth 12, width 768, vocabulary 50,265, 514 positions there)."""
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device) * 0.1

    encoder = "modality_encoders.TEXT"
    return {
        f"{encoder}.local_encoder.embed_tokens.weight": draw(vocabulary, width),
        f"{encoder}.local_encoder.embed_positions.weight": draw(positions, width),
        f"{encoder}.local_encoder.layernorm_embedding.weight": 1 + draw(width),
        f"{encoder}.local_encoder.layernorm_embedding.bias": draw(width),
        f"{encoder}.decoder.proj.weight": draw(4, 4),
        "_ema": draw(3),
        **_blocks(depth, width, 4 * width, draw),
    }


def _norm(x: Tensor, state: dict[str, Tensor], name: str, eps: float) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def _linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _run_blocks(x: Tensor, state: dict[str, Tensor], depth: int, heads: int, eps: float) -> Tensor:
    """x [L, D] of one row without padding."""
    width = x.shape[-1]
    size = width // heads
    for i in range(depth):
        qkv = _linear(x, state, f"blocks.{i}.attn.qkv")
        mixed = torch.zeros_like(x)
        for head in range(heads):
            q, k, v = (qkv[:, part * width + head * size : part * width + (head + 1) * size] for part in range(3))
            weights = ((q * size**-0.5) @ k.T).softmax(-1)
            mixed[:, head * size : (head + 1) * size] = weights @ v
        x = _norm(x + _linear(mixed, state, f"blocks.{i}.attn.proj"), state, f"blocks.{i}.norm1", eps)
        hidden = F.gelu(_linear(x, state, f"blocks.{i}.mlp.fc1"))
        x = _norm(x + _linear(hidden, state, f"blocks.{i}.mlp.fc2"), state, f"blocks.{i}.norm2", eps)
    return x


def image_forward(pixels: Tensor, state: dict[str, Tensor], depth: int = 2, heads: int = 2) -> Tensor:
    """One normalised picture [3, H, W] -> [1 + patches, D]: class token without position, norm, post-norm blocks."""
    encoder = "modality_encoders.IMAGE"
    weight = state[f"{encoder}.local_encoder.proj.weight"]
    patch = weight.shape[-1]
    rows = []
    for top in range(0, pixels.shape[1], patch):
        for left in range(0, pixels.shape[2], patch):
            piece = pixels[:, top : top + patch, left : left + patch].reshape(-1)
            rows.append(weight.reshape(len(weight), -1) @ piece + state[f"{encoder}.local_encoder.proj.bias"])
    x = torch.stack(rows) + state[f"{encoder}.fixed_positional_encoder.positions"][0]
    x = torch.cat([state[f"{encoder}.extra_tokens"][0], x])
    x = _norm(x, state, f"{encoder}.context_encoder.norm", 1e-6)
    return _run_blocks(x, state, depth, heads, 1e-6)


def text_forward(ids: list[int], state: dict[str, Tensor], depth: int = 2, heads: int = 2) -> Tensor:
    """One text's ids without padding -> tokens [L, D]: positions from 2, norm, post-norm blocks."""
    encoder = "modality_encoders.TEXT.local_encoder"
    x = state[f"{encoder}.embed_tokens.weight"][ids]
    x = x + state[f"{encoder}.embed_positions.weight"][2 : 2 + len(ids)]
    x = _norm(x, state, f"{encoder}.layernorm_embedding", 1e-5)
    return _run_blocks(x, state, depth, heads, 1e-5)
