"""The cells of CLIP's image towers before they are pooled, for pictures of any size (papers: CLIP-ViL)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor

from mmkd_cli.core.errors import UserError

PosEmbed = Literal["interp", "zeros"]


def clip_cells(visual: Any, pixels: Tensor, blocks: int | None, pos_embed: PosEmbed) -> Tensor:
    """Normalised pixels [B, 3, H, W] -> [B, C, h, w].

    A ResNet: the last stage, its attention pool skipped. A vision transformer: patch tokens behind `blocks` blocks
    (None: all), no final norm, position embeddings interpolated to h x w, or zeros, as the authors' code ran it.
    UserError for another library's tower.
    """
    if isinstance(visual, ModifiedResNet):
        stages = (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4)
        for stage in stages:
            pixels = stage(pixels)
        return pixels
    if not isinstance(visual, VisionTransformer):
        raise UserError(f"the image tower {type(visual).__name__} has no grid of ours: name a CLIP's ResNet or ViT")
    patches = visual.conv1(pixels)
    batch, _, rows, columns = patches.shape
    cls = visual.class_embedding.to(patches.dtype).expand(batch, 1, -1)
    tokens = torch.cat([cls, patches.flatten(2).transpose(1, 2)], dim=1)
    if pos_embed == "interp":
        tokens = tokens + positions_of(visual.positional_embedding, rows, columns).to(tokens.dtype)
    tokens = visual.ln_pre(tokens)
    every = visual.transformer.resblocks
    if blocks is not None and not 1 <= blocks <= len(every):
        raise UserError(f"teacher.blocks={blocks}: this tower has {len(every)}")
    if not visual.transformer.batch_first:
        tokens = tokens.transpose(0, 1)
    for block in every[:blocks]:
        tokens = block(tokens)
    if not visual.transformer.batch_first:
        tokens = tokens.transpose(0, 1)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))


def grid_part(visual: Any, blocks: int | None) -> Any:
    """The tower without what `clip_cells` does not run: pool, projection, final norm, later blocks. Changes it."""
    if isinstance(visual, ModifiedResNet):
        visual.attnpool = torch.nn.Identity()
    elif isinstance(visual, VisionTransformer):
        visual.proj, visual.ln_post = None, torch.nn.Identity()
        if blocks is not None:
            visual.transformer.resblocks = visual.transformer.resblocks[:blocks]
    return visual


def positions_of(embedding: Tensor, rows: int, columns: int) -> Tensor:
    """[1 + n * n, C], the CLS first -> [1 + rows * columns, C], bicubic."""
    side = round((len(embedding) - 1) ** 0.5)
    grid = embedding[1:].T.unflatten(1, (side, side))[None]
    grid = F.interpolate(grid.float(), (rows, columns), mode="bicubic", align_corners=False).to(embedding.dtype)
    return torch.cat([embedding[:1], grid[0].flatten(1).T])
