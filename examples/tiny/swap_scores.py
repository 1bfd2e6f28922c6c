"""Scores of swaps by Winoground's rules (a tie is wrong), with 95 % intervals, and sets of single objects."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene
from mmkd_cli.scenes.swaps import Swap

SEED = 0


def swap_rows(kind: str, items: int) -> list[Swap]:
    return [scenes.swap(kind, SEED, index, plain=True) for index in range(items)]


def report(pairs: Tensor) -> dict[str, str]:
    """pairs [n, caption, picture] -> percent of items right, and two-way text accuracy."""
    (c0i0, c0i1), (c1i0, c1i1) = pairs.permute(1, 2, 0)
    first, second = c0i0 > c1i0, c1i1 > c0i1
    image = (c0i0 > c0i1) & (c1i1 > c1i0)
    text = first & second
    found = {"text": text, "image": image, "group": text & image, "two-way": torch.cat([first, second])}
    return {name: percent(right) for name, right in found.items()}


def percent(right: Tensor) -> str:
    """Share in percent and the half-width of its normal interval."""
    share, n = right.float().mean().item(), len(right)
    return f"{100 * share:.1f} +- {196 * sqrt(share * (1 - share) / n):.1f}"


def classification(by: str, items: int) -> tuple[list[Scene], Tensor, list[str]]:
    """Scenes of one object, labels [n] by "shape" or "colour", and a caption a class."""
    rows = [scenes.scene(SEED, index, "val", objects=1, plain=True) for index in range(items)]
    ending = " shape" if by == "colour" else ""
    prompts = [f"a picture of a {name}{ending}" for name in scenes.CLASS_NAMES[by]]
    return rows, torch.tensor([scenes.class_label(row, by) for row in rows]), prompts
