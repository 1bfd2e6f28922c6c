"""Pictures: bytes that are not trusted to RGB, and the evaluation transform of a vision model.

A picture is seen upright (its EXIF orientation applied), as `datasets.Image` decodes it too.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from mmkd_cli.core.contracts import View
from mmkd_cli.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_PIXELS = 178_956_970
"""Pillow's own bound: twice its MAX_IMAGE_PIXELS, above which it refuses to open a picture."""

PICTURES = 1 << 40
"""More than the pictures of any data set: with it a data set's number tells its rows from those of others."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""What is opened. Others (EPS starts an interpreter) are refused by their first bytes."""

ORIENTATION = 0x0112
"""EXIF tag."""

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# decode() has its own bound, checked before any pixel is read; Pillow's warning at half of its bound says nothing more
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureError(UserError):
    """A picture that can't be used; the message is the reason."""


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture of these bytes with its header read and no pixel decoded. PictureError if it is none or too large."""
    try:
        image = Image.open(BytesIO(data), formats=_formats())
    except Image.DecompressionBombError:
        raise PictureError(f"it has more pixels than {max_pixels:,}") from None
    except Exception as error:  # Pillow's plugins raise whatever their parsers meet
        raise PictureError(_reason(error, data)) from None
    if image.width * image.height > max_pixels:
        raise PictureError(f"it has {image.width} x {image.height} pixels, more than {max_pixels:,}")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened picture: upright, RGB, 8 bits. PictureError if its bytes are damaged."""
    try:
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise PictureError(_reason(error, b"damaged")) from None


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Bytes to an upright RGB picture. PictureError if they are no picture, damaged, or hold too many pixels."""
    return to_rgb(open_header(data, max_pixels))


def shortest_side(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the short side became `size` (the long one rounded down, as torchvision does)."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _reason(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture in a format that is read (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000)"
    return f"its bytes are damaged ({type(error).__name__}: {error})"


def normalized(pixels: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """uint8 [B, 3, H, W] to (x / 255 - mean) / std by channel, computed in float32."""
    import torch

    by_channel = [torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (mean, std)]
    return pixels.float().div_(255).sub_(by_channel[0]).div_(by_channel[1]).to(dtype)


@dataclass(frozen=True)
class Transform:
    """Resize, centre crop; later scale and normalise (`core.contracts.PictureTransform`).

    size: height and width of the result, pixels. resize: `shortest` keeps the aspect (short side to resize_size),
    `squash` makes both sides resize_size times their share of `size`. mean, std: by channel, of pixels in [0, 1].
    """

    size: tuple[int, int] = (224, 224)
    resize: Literal["shortest", "squash"] = "shortest"
    resize_size: int = 224
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.interpolation not in RESAMPLING:
            raise UserError(f"interpolation {self.interpolation!r} is not one of {', '.join(RESAMPLING)}")
        if self.resize not in ("shortest", "squash") or self.resize_size < max(self.size):
            raise UserError(
                f"transform resize={self.resize!r} to {self.resize_size}, crop {self.size}: "
                "resize is shortest or squash, to at least the crop"
            )
        if self.resize == "squash" and self.size[0] != self.size[1]:
            raise UserError(f"transform squash to {self.size}: the size must be a square")

    @classmethod
    def from_timm(cls, data_config: Mapping[str, Any]) -> Transform:
        """The evaluation transform of timm's `create_transform(**data_config)`, for square inputs."""
        height, width = data_config["input_size"][-2:]
        mode = data_config.get("crop_mode") or "center"
        if mode not in ("center", "squash") or height != width:
            raise UserError(f"timm's crop mode {mode!r} at {height} x {width} is not supported: use a square model")
        crop_pct = data_config.get("crop_pct") or 0.875
        return cls(
            size=(height, width),
            resize="squash" if mode == "squash" else "shortest",
            resize_size=math.floor(height / crop_pct),
            interpolation=data_config.get("interpolation") or "bilinear",
            mean=tuple(data_config["mean"]),
            std=tuple(data_config["std"]),
        )

    def __call__(self, image: Image.Image, view: View | None = None) -> Tensor:
        """uint8 [3, H, W]. With a view its crop (then flip and colour) replaces the evaluation crop."""
        import torch

        image = image if image.mode == "RGB" else image.convert("RGB")
        cut = self._evaluation(image) if view is None else self._view(image, view)
        return torch.from_numpy(np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1)))

    def _evaluation(self, image: Image.Image) -> Image.Image:
        target = (self.resize_size, self.resize_size)
        if self.resize == "shortest":
            target = shortest_side(image.width, image.height, self.resize_size)
        if image.size != target:
            image = image.resize(target, RESAMPLING[self.interpolation])
        height, width = self.size
        top, left = round((image.height - height) / 2), round((image.width - width) / 2)
        return image.crop((left, top, left + width, top + height))

    def _view(self, image: Image.Image, view: View) -> Image.Image:
        left, top = view.left * image.width, view.top * image.height
        right = min(left + view.width * image.width, image.width)
        bottom = min(top + view.height * image.height, image.height)
        height, width = self.size
        image = image.resize((width, height), RESAMPLING[self.interpolation], box=(left, top, right, bottom))
        if view.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhance, factor in ((ImageEnhance.Brightness, view.brightness), (ImageEnhance.Contrast, view.contrast),
                                (ImageEnhance.Color, view.saturation)):  # fmt: skip
            if factor != 1.0:
                image = enhance(image).enhance(factor)
        return image

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What is left of a picture of this size: left, top, right, bottom in fractions of it."""
        sides = (self.resize_size, self.resize_size)
        if self.resize == "shortest":
            sides = shortest_side(width, height, self.resize_size)
        across, down = ((side - kept) / 2 / side for side, kept in zip(sides, reversed(self.size), strict=True))
        return across, down, 1 - across, 1 - down

    def normalize(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 [B, 3, H, W] on any device to (x / 255 - mean) / std, computed in float32."""
        return normalized(pixels, self.mean, self.std, dtype)

    def identity(self) -> dict[str, Any]:
        """Everything that changes what a model sees."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
