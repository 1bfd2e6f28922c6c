"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719) by timm, of which each picture's draws depend on nothing else.

timm's operations draw from Python's global generator, which the thread or process that loads pictures shares with
others. Here they are those of a copy of timm's module, whose `random` is a generator of its own.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import RESAMPLING

_SHARE = 0.45
"""Of a picture's side: the farthest that it is moved, as in timm's transforms."""


class RandAugment:
    """`data.viewed.Change`: timm's operations as its text `how` says (rand-m9-mstd0.5-inc1).

    side: of the pictures, px. mean: by channel, of what is left bare. purpose: the first parts of the key of draws.
    """

    def __init__(self, how: str, side: int, mean: Sequence[float], interpolation: str, *purpose: str | int) -> None:
        self.how, self.purpose = how, purpose
        self._asked = {
            "translate_const": int(side * _SHARE), "img_mean": tuple(min(255, round(255 * one)) for one in mean),
            "interpolation": RESAMPLING[interpolation],
        }  # fmt: skip
        self._made: tuple[ModuleType, Any] | None = None
        self._transform()  # what can't be read is said at once

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    def __call__(self, pixels: Tensor, row: int, epoch: int) -> Tensor:
        """pixels uint8 [3, H, W] -> the same shape."""
        module, transform = self._transform()
        key = f"{self.purpose} {row} {epoch}"
        module.random.seed(key)
        draw = np.random.Generator(np.random.Philox(key=module.random.getrandbits(128)))
        weights = transform.choice_weights
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        for number in draw.choice(len(transform.ops), transform.num_layers, replace=weights is None, p=weights):
            picture = transform.ops[number](picture)
        return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())

    def _transform(self) -> tuple[ModuleType, Any]:
        """The copy of timm's module, and its transform."""
        if self._made is None:
            spec = importlib.util.find_spec("timm.data.auto_augment")
            assert spec is not None and spec.loader is not None
            module: Any = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.random = random.Random()
            whole = module.posterize

            def posterize(picture: Image.Image, bits: int, **options: Any) -> Image.Image:
                """Of no bits black, as timm's recipes mean it; Pillow refuses these."""
                return whole(picture, bits, **options) if bits > 0 else Image.new(picture.mode, picture.size)

            module.NAME_TO_OP.update({n: posterize for n, op in module.NAME_TO_OP.items() if op is whole})
            try:
                self._made = module, module.rand_augment_transform(self.how, dict(self._asked))
            except (AssertionError, ValueError) as error:
                raise UserError(
                    f"task.rand_augment {self.how!r} is not timm's ({error}): write it like rand-m9-mstd0.5-inc1"
                ) from None
        return self._made
