"""Decoding of bytes that are not trusted, and the evaluation transform against timm's own."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mmkd_cli.core.contracts import View
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import ORIENTATION, PictureError, Transform, decode
from tests.data.made_pictures import encoded, jpeg, picture


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_transform_equals_timm(mode: str, crop_pct: float, interpolation: str) -> None:
    from timm.data import create_transform

    data_config = {"input_size": (3, 64, 64), "interpolation": interpolation, "mean": (0.5, 0.4, 0.3),
                   "std": (0.2, 0.3, 0.4), "crop_pct": crop_pct, "crop_mode": mode}  # fmt: skip
    ours = Transform.from_timm(data_config)
    pixels, normalised = create_transform(**data_config, normalize=False), create_transform(**data_config)
    for width, height in ((48, 48), (111, 87), (64, 101), (160, 120), (73, 72)):
        image = picture(width, width, height)
        assert torch.equal(ours(image), pixels(image))
        assert torch.equal(ours.normalize(ours(image)[None], torch.float32)[0], normalised(image))


def test_view_crops_flips_and_colours() -> None:
    image = picture(1, 80, 60)
    transform = Transform(size=(20, 30), resize_size=40)
    seen = transform(image, View(left=0.25, top=0.5, width=0.5, height=0.5, flip=True, brightness=0.5))
    by_hand = ImageOps.mirror(image.resize((30, 20), Image.Resampling.BICUBIC, box=(20, 30, 60, 60)))
    expected = np.asarray(by_hand).astype(float) * 0.5
    assert seen.shape == (3, 20, 30)
    assert np.abs(seen.permute(1, 2, 0).numpy() - expected).max() <= 1
    whole = Transform(size=(60, 80), resize_size=80)(image, View())
    assert np.array_equal(whole.permute(1, 2, 0).numpy(), np.asarray(image))


def test_impossible_transforms_are_errors() -> None:
    with pytest.raises(UserError, match="interpolation 'cubic'"):
        Transform(interpolation="cubic")
    with pytest.raises(UserError, match="at least the crop"):
        Transform(size=(64, 64), resize_size=32)
    with pytest.raises(UserError, match="crop mode 'border'"):
        Transform.from_timm({"input_size": (3, 64, 64), "mean": (0,), "std": (1,), "crop_mode": "border"})


def test_pictures_are_decoded_upright() -> None:
    image = picture(2, 32, 16)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(image, quality=100, exif=exif)
    upright = decode(data)
    assert upright.size == (16, 32)
    assert np.array_equal(np.asarray(upright), np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data)))))


def test_sixteen_bits_keep_their_shades() -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    seen = np.asarray(decode(encoded(Image.fromarray(deep), "PNG")))[..., 0]
    assert np.array_equal(seen, (deep >> 8).astype(np.uint8))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_mode_becomes_rgb(mode: str) -> None:
    image = picture(3, 20, 20).convert(mode)
    found = decode(encoded(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert (found.mode, found.size) == ("RGB", (20, 20))


DATA = struct.pack(">I", 100) + b"IDAT" + b"\x78\x9c"


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + DATA


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture", "no picture in a format that is read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture in a format that is read"),
        (png_header(60_000, 60_000), "more"),
        (png_header(13_000, 13_000), "damaged"),
        (jpeg(1, 400, 300)[:2000], "damaged"),
        (jpeg(1)[:20], "no picture|damaged"),
    ],
)
def test_hostile_pictures_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        decode(data)


def test_pixels_are_bounded_before_decoding() -> None:
    with pytest.raises(PictureError, match="13000 x 13000 pixels, more than 1,000,000"):
        decode(png_header(13_000, 13_000), max_pixels=1_000_000)
    assert decode(jpeg(1, 40, 30), max_pixels=1200).size == (40, 30)
    with pytest.raises(PictureError, match="40 x 30"):
        decode(jpeg(1, 40, 30), max_pixels=1199)
