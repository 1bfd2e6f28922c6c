"""How a picture is stored: checked, its short side brought down, or its own bytes kept."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from mmkd_cli.data.pictures import MAX_PIXELS, ORIENTATION, open_header, shortest_side, to_rgb

KEPT = ("JPEG", "PNG", "WEBP")
"""Formats whose small pictures keep their own bytes; other small pictures become JPEG at their own size."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


class StoredPicture(NamedTuple):
    """An encoded picture, and the width and height of its original (upright), pixels."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class PictureStore:
    """Bytes of an original to the bytes that are stored.

    image_size: short side, pixels; 0 keeps all original bytes. Pictures are never enlarged: one whose short side is
    not above image_size keeps its bytes (in a format of KEPT). quality: of the JPEG written. draft: let the JPEG
    decoder scale by 1/2, 1/4 or 1/8 first. Every pixel is decoded in any case, so that damage is found here.
    """

    image_size: int
    quality: int
    draft: bool = False
    max_pixels: int = MAX_PIXELS

    def __call__(self, data: bytes) -> StoredPicture:
        """Raises PictureError with the reason."""
        image = open_header(data, self.max_pixels)
        width, height = image.size
        if image.getexif().get(ORIENTATION, 1) in _SIDEWAYS:
            width, height = height, width
        large = min(image.size) > self.image_size
        keep = self.image_size == 0 or (not large and image.format in KEPT)
        if self.draft and large and not keep:
            image.draft(None, shortest_side(image.width, image.height, self.image_size))
        pixels = to_rgb(image)
        if keep:
            return StoredPicture(data, width, height)
        if large:
            target = shortest_side(pixels.width, pixels.height, self.image_size)
            pixels = pixels.resize(target, Image.Resampling.BICUBIC)
        buffer = BytesIO()
        pixels.save(buffer, "JPEG", quality=self.quality)
        return StoredPicture(buffer.getvalue(), width, height)
