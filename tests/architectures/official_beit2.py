"""Random BEiT-2 checkpoints in the names and shapes of the authors' files, and their forward in plain functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def beit2_state(
    depth: int = 2,
    width: int = 64,
    heads: int = 2,
    grid: int = 3,
    patch: int = 8,
    *,
    fine_tuned: int = 0,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Layout of beitv2_base_patch16_224_pt1k.pth (depth 12, width 768, heads 12, grid 14, patch 16 there);

    with `fine_tuned` classes that of ..._ft1k.pth: a table a block, `fc_norm` and `head` in place of `norm`.
    """
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device) * 0.1

    distances = (2 * grid - 1) ** 2 + 3
    index = torch.zeros((grid * grid + 1, grid * grid + 1), dtype=torch.int64, device=device)
    state = {
        "cls_token": draw(1, 1, width),
        "patch_embed.proj.weight": draw(width, 3, patch, patch),
        "patch_embed.proj.bias": draw(width),
    }
    if fine_tuned:
        state |= {"fc_norm.weight": 1 + draw(width), "fc_norm.bias": draw(width)}
        state |= {"head.weight": draw(fine_tuned, width), "head.bias": draw(fine_tuned)}
    else:
        state |= {
            "mask_token": draw(1, 1, width),
            "rel_pos_bias.relative_position_bias_table": 5 * draw(distances, heads),
            "rel_pos_bias.relative_position_index": index,
            "norm.weight": 1 + draw(width),
            "norm.bias": draw(width),
            "lm_head.weight": draw(16, width),
            "lm_head.bias": draw(16),
        }
        for i in range(2):
            state |= _block(f"cls_pt_layers.{i}", width, draw)
    for i in range(depth):
        state |= _block(f"blocks.{i}", width, draw)
        if fine_tuned:
            state[f"blocks.{i}.attn.relative_position_bias_table"] = 5 * draw(distances, heads)
            state[f"blocks.{i}.attn.relative_position_index"] = index
    return state


def _block(name: str, width: int, draw: Any) -> dict[str, Tensor]:
    return {
        f"{name}.gamma_1": 1 + draw(width),
        f"{name}.gamma_2": 1 + draw(width),
        f"{name}.norm1.weight": 1 + draw(width),
        f"{name}.norm1.bias": draw(width),
        f"{name}.attn.q_bias": draw(width),
        f"{name}.attn.v_bias": draw(width),
        f"{name}.attn.qkv.weight": draw(3 * width, width),
        f"{name}.attn.proj.weight": draw(width, width),
        f"{name}.attn.proj.bias": draw(width),
        f"{name}.norm2.weight": 1 + draw(width),
        f"{name}.norm2.bias": draw(width),
        f"{name}.mlp.fc1.weight": draw(4 * width, width),
        f"{name}.mlp.fc1.bias": draw(4 * width),
        f"{name}.mlp.fc2.weight": draw(width, 4 * width),
        f"{name}.mlp.fc2.bias": draw(width),
    }


def relative_bias(table: Tensor, grid: int) -> Tensor:
    """[heads, L, L] of a table [(2 grid - 1)^2 + 3, heads]: by offset of two patches; the last three rows are for the

    class token looking at a patch, a patch at the class token, and the class token at itself.
    """
    length = grid * grid + 1
    bias = torch.zeros(table.shape[1], length, length)
    for i in range(length):
        for j in range(length):
            if i == 0 and j == 0:
                row = len(table) - 1
            elif i == 0:
                row = len(table) - 3
            elif j == 0:
                row = len(table) - 2
            else:
                (row_i, column_i), (row_j, column_j) = divmod(i - 1, grid), divmod(j - 1, grid)
                row = (row_i - row_j + grid - 1) * (2 * grid - 1) + column_i - column_j + grid - 1
            bias[:, i, j] = table[row]
    return bias


def _norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def beit2_forward(pixels: Tensor, state: dict[str, Tensor], depth: int = 2) -> Tensor:
    """One normalised picture [3, H, W] -> tokens [1 + patches, D] before the last norm."""
    weight = state["patch_embed.proj.weight"]
    patch, width = weight.shape[-1], weight.shape[0]
    grid = pixels.shape[1] // patch
    rows = [state["cls_token"][0, 0]]
    for top in range(0, pixels.shape[1], patch):
        for left in range(0, pixels.shape[2], patch):
            piece = pixels[:, top : top + patch, left : left + patch].reshape(-1)
            rows.append(weight.reshape(width, -1) @ piece + state["patch_embed.proj.bias"])
    x = torch.stack(rows)
    shared = state.get("rel_pos_bias.relative_position_bias_table")
    for i in range(depth):
        name = f"blocks.{i}"
        table = shared if shared is not None else state[f"{name}.attn.relative_position_bias_table"]
        bias = relative_bias(table, grid)
        y = _norm(x, state, f"{name}.norm1")
        qkv = y @ state[f"{name}.attn.qkv.weight"].T
        q, k, v = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
        q, v = q + state[f"{name}.attn.q_bias"], v + state[f"{name}.attn.v_bias"]
        size = width // len(bias)
        mixed = torch.zeros_like(x)
        for head in range(len(bias)):
            part = slice(head * size, (head + 1) * size)
            weights = ((q[:, part] * size**-0.5) @ k[:, part].T + bias[head]).softmax(-1)
            mixed[:, part] = weights @ v[:, part]
        said = mixed @ state[f"{name}.attn.proj.weight"].T + state[f"{name}.attn.proj.bias"]
        x = x + state[f"{name}.gamma_1"] * said
        y = _norm(x, state, f"{name}.norm2")
        y = F.gelu(y @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"])
        x = x + state[f"{name}.gamma_2"] * (y @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"])
    return x


def last_norm(x: Tensor, state: dict[str, Tensor], name: str = "norm") -> Tensor:
    """The norm over all tokens (`norm`) or over the patches' mean (`fc_norm`)."""
    return _norm(x, state, name)
