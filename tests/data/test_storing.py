"""What is stored of a picture: never enlarged, its own bytes where they will do, damage found."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmkd_cli.data.pictures import ORIENTATION, PictureError, decode
from mmkd_cli.data.storing import PictureStore
from tests.data.made_pictures import encoded, jpeg, picture


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def test_short_side_comes_down_as_by_hand() -> None:
    image = picture(1, 400, 300)
    stored = PictureStore(100, 95)(encoded(image, "PNG"))
    by_hand = decode(encoded(image.resize((133, 100), Image.Resampling.BICUBIC), quality=95))
    assert (stored.width, stored.height) == (400, 300)
    assert np.array_equal(np.asarray(decode(stored.data)), np.asarray(by_hand))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_small_pictures_keep_their_bytes(kind: str) -> None:
    data = encoded(picture(2, 50, 40), kind)
    assert PictureStore(40, 95)(data).data == data
    assert PictureStore(39, 95)(data).data != data
    assert PictureStore(0, 95)(data).data == data


def test_small_pictures_of_other_formats_become_jpeg() -> None:
    stored = PictureStore(256, 95)(encoded(picture(3, 50, 40), "BMP"))
    assert opened(stored.data).format == "JPEG" and opened(stored.data).size == (50, 40)
    original = encoded(picture(3, 500, 400), "BMP")
    assert PictureStore(0, 95)(original).data == original


def test_turned_pictures_are_stored_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    stored = PictureStore(50, 95)(encoded(picture(4, 200, 100), exif=exif))
    assert (stored.width, stored.height) == (100, 200)
    found = opened(stored.data)
    assert found.size == (50, 100) and not found.getexif().get(ORIENTATION)


def test_draft_is_close_to_exact() -> None:
    data = encoded(picture(5, 1200, 900), quality=95)
    exact = np.asarray(decode(PictureStore(128, 95)(data).data)).astype(float)
    draft = np.asarray(decode(PictureStore(128, 95, draft=True)(data).data)).astype(float)
    assert exact.shape == draft.shape == (128, 170, 3)
    assert np.abs(exact - draft).mean() < 1.5


@pytest.mark.parametrize("size", [0, 64, 1000])
def test_damage_is_found_even_where_bytes_are_kept(size: int) -> None:
    with pytest.raises(PictureError, match="damaged"):
        PictureStore(size, 95)(jpeg(6, 400, 300)[:3000])
