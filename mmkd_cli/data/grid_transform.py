"""Pictures for grids of features: warped to a rectangle, or in their own aspect, with or without a canvas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from mmkd_cli.core.contracts import View
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import RESAMPLING, Transform, normalized

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Resize = Literal["warp", "short", "pad"]


@dataclass(frozen=True)
class GridTransform:
    """Resize; later scale and normalise (`core.contracts.PictureTransform`). Views are refused.

    warp: to height x width, whatever the aspect. short, pad: the short side to the smaller of both, the long one to at
    most the larger, in the picture's aspect; pad is laid on a black canvas of height x width, or width x height for an
    upright or square picture, by whoever makes batches (`on_canvas`). mean, std: by channel, of pixels in [0, 1].
    """

    resize: Resize
    height: int
    width: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.interpolation not in RESAMPLING:
            raise UserError(f"interpolation {self.interpolation!r} is not one of {', '.join(RESAMPLING)}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the largest result that lies on its side."""
        return self.height, self.width

    def __call__(self, image: Image.Image, view: View | None = None) -> Tensor:
        """uint8 [3, h, w]; short and pad: in the picture's own aspect."""
        import torch

        if view is not None:
            raise UserError("grids are of whole pictures: leave --views out")
        image = image if image.mode == "RGB" else image.convert("RGB")
        target = (self.width, self.height) if self.resize == "warp" else self._own_aspect(*image.size)
        image = image.resize(target, RESAMPLING[self.interpolation])
        return torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))

    def _own_aspect(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, rounded to the nearest pixel."""
        short, longest = sorted((self.height, self.width))
        scale = min(short / min(width, height), longest / max(width, height))
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))

    def on_canvas(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [3, h, w] -> the same in the middle of its canvas [3, H, W], and bool [H, W]: where the picture is."""
        _, h, w = pixels.shape
        rows, columns = self._canvas(w, h)
        top, left = (rows - h) // 2, (columns - w) // 2
        canvas, inside = pixels.new_zeros((3, rows, columns)), pixels.new_zeros((rows, columns)).bool()
        canvas[:, top : top + h, left : left + w] = pixels
        inside[top : top + h, left : left + w] = True
        return canvas, inside

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Where the result, of pad the whole canvas, lies on a picture of this size: left, top, right, bottom in
        fractions of it; of a canvas below 0 and above 1."""
        if self.resize != "pad":
            return 0.0, 0.0, 1.0, 1.0
        w, h = self._own_aspect(width, height)
        rows, columns = self._canvas(w, h)
        top, left = (rows - h) // 2, (columns - w) // 2
        return -left / w, -top / h, (columns - left) / w, (rows - top) / h

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of pixels."""
        small, large = sorted((self.height, self.width))
        return (small, large) if width > height else (large, small)

    def normalize(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 [B, 3, H, W] on any device to (x / 255 - mean) / std, computed in float32."""
        return normalized(pixels, self.mean, self.std, dtype)

    def identity(self) -> dict[str, Any]:
        """Everything that changes what a model sees."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def recorded_transform(said: Mapping[str, Any]) -> Transform | GridTransform:
    """The transform of which a teacher's identity holds this."""
    keys: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return GridTransform(**keys) if "height" in keys else Transform(**keys)
