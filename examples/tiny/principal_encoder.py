"""The encoder of a small AutoencoderKL in closed form: principal components of patches, exactly.

Trained from random weights for the minutes that a tiny model has, such an encoder still sees grey. Its principal
components are known at once, and its convolutions can compute them: residual branches that give nothing, strided
convolutions that gather 2 x 2 cells, and a last norm and activation that cancel out (each component runs through them
with both signs, and silu(x) - silu(-x) = x).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

WHITENING = 0.5
"""Half: grounds, the leading components, count less beside objects, the lesser ones."""
ANCHOR = 1000.0
"""Two channels of every group hold plus and minus this, so that a group's norm divides by the same number always."""


def components(x: Tensor, rows: int, whitening: float = 0.0) -> tuple[Tensor, Tensor]:
    """x [B, C, 2h, 2w] -> [rows, 4 C] and a bias [rows]: the leading components of 2 x 2 cells (C, then y, x).

    whitening: the power of its standard deviation that a component is divided by.
    """
    cells = F.unfold(x, 2, stride=2).transpose(1, 2).flatten(0, 1)
    mean = cells.mean(0)
    variances, vectors = torch.linalg.eigh(torch.cov((cells - mean).T.double()))
    scale = variances.flip(0)[:rows, None] ** (-whitening / 2) if whitening else 1.0
    leading = (scale * vectors.T.flip(0)[:rows]).float()
    leading = leading * leading.sum(1, keepdim=True).sign()  # a component's sign is free
    return leading, -leading @ mean


@torch.no_grad()
def set_encoder(vae: AutoencoderKL, pictures: Tensor, log_variance: float = -8.0) -> None:
    """Write the components of pictures [B, 3, H, W] into the encoder of a VAE of four levels, and freeze it."""
    encoder, kept = vae.encoder, vae.config.latent_channels
    for block in [m for m in encoder.modules() if type(m).__name__ == "ResnetBlock2D"]:
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
        if block.conv_shortcut is not None:
            copy_(block.conv_shortcut)
    copy_(encoder.conv_in)
    strided = [block.downsamplers[0].conv for block in encoder.down_blocks[:3]]
    x = pictures
    groups = vae.config.norm_num_groups
    for level, conv in enumerate(strided):
        rows = min(4 * x.shape[1], len(conv.weight)) if level < 2 else kept
        weight, bias = components(x, rows, WHITENING if level == 2 else 0.0)
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        x = F.conv2d(x, weight.view(rows, -1, 2, 2), bias, stride=2)
        if level < 2:
            conv.weight[:rows, : weight.shape[1] // 4, :2, :2] = weight.view(rows, -1, 2, 2)
            conv.bias[:rows] = bias
            continue
        width = len(conv.weight) // groups
        place = [g * width + 2 * k for g in range(groups) for k in range(kept // groups)]
        for sign, channels in ((1.0, place), (-1.0, [p + 1 for p in place])):
            conv.weight[channels, : weight.shape[1] // 4, :2, :2] = sign * weight.view(kept, -1, 2, 2)
            conv.bias[channels] = sign * bias
            conv.bias[[g * width + 2 * (kept // groups) + (sign < 0) for g in range(groups)]] = sign * ANCHOR
    nn.init.constant_(encoder.conv_norm_out.weight, ANCHOR * (2 / width) ** 0.5)
    nn.init.zeros_(encoder.conv_norm_out.bias)
    for conv in (encoder.conv_out, vae.quant_conv):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    for component, channel in enumerate(place):
        encoder.conv_out.weight[component, channel, 1, 1] = 1.0
        encoder.conv_out.weight[component, channel + 1, 1, 1] = -1.0
        vae.quant_conv.weight[component, component] = 1.0
    vae.quant_conv.bias[kept:] = log_variance
    encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)


def copy_(conv: nn.Conv2d) -> None:
    """A convolution that hands its first channels on, and zeros for the rest."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    centre = conv.kernel_size[0] // 2
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel, centre, centre] = 1.0
