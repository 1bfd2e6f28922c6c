"""Augmented views as a pure function of (seed, split, row, view): any epoch, process or student draws the same crop."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import View
from mmkd_cli.core.fingerprints import canonical_json

_ATTEMPTS = 10
"""Crops drawn until one fits, as torchvision's RandomResizedCrop does."""


class ViewSpec(Config):
    """From which ranges views are drawn; the values of torchvision's RandomResizedCrop, without colour."""

    scale_min: float = key(0.08, "smallest crop, share of the picture's area", source="[C] torchvision", gt=0, le=1)
    scale_max: float = key(1.0, "largest crop, share of the picture's area", source="[C] torchvision", gt=0, le=1)
    ratio_min: float = key(3 / 4, "narrowest crop, aspect relative to the picture's", source="[C] torchvision", gt=0)
    ratio_max: float = key(4 / 3, "widest crop, aspect relative to the picture's", source="[C] torchvision", gt=0)
    flip: float = key(0.5, "chance of a mirrored picture", source="[C] torchvision", ge=0, le=1)
    brightness: float = key(0.0, "factors are drawn from 1 - b to 1 + b", source="[U] crop and flip only", ge=0, le=1)
    contrast: float = key(0.0, "factors are drawn from 1 - c to 1 + c", source="[U] crop and flip only", ge=0, le=1)
    saturation: float = key(0.0, "factors are drawn from 1 - s to 1 + s", source="[U] crop and flip only", ge=0, le=1)


class _Uniform:
    """Numbers in [0, 1) from Philox's raw words, which numpy keeps the same over its releases."""

    def __init__(self, *purpose: object) -> None:
        digest = hashlib.sha256(canonical_json(list(purpose)).encode()).digest()
        self._philox = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * (int(self._philox.random_raw()) >> 11) * 2.0**-53


def view(spec: ViewSpec, seed: int, split: str, row: int, view: int) -> View:
    """View number `view` of a row. Crops are fractions of the stored picture, whatever its size."""
    draw = _Uniform(seed, split, int(row), int(view))
    for _ in range(_ATTEMPTS):
        area = draw.between(spec.scale_min, spec.scale_max)
        ratio = math.exp(draw.between(math.log(spec.ratio_min), math.log(spec.ratio_max)))
        width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if width <= 1 and height <= 1:
            break
    else:
        width = height = math.sqrt(spec.scale_max)
    return View(
        left=draw.between(0, 1 - width),
        top=draw.between(0, 1 - height),
        width=width,
        height=height,
        flip=draw.between(0, 1) < spec.flip,
        brightness=draw.between(1 - spec.brightness, 1 + spec.brightness),
        contrast=draw.between(1 - spec.contrast, 1 + spec.contrast),
        saturation=draw.between(1 - spec.saturation, 1 + spec.saturation),
    )
