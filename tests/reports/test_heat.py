"""Heat over a picture: where it lies, what it leaves out, and grids that are smaller or larger than the picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmkd_cli.data.grid_transform import GridTransform, recorded_transform
from mmkd_cli.data.pictures import Transform
from mmkd_cli.reports.heat import heated, over_cells, over_regions

WHOLE = (0.0, 0.0, 1.0, 1.0)
GREY = Image.new("RGB", (80, 40), (100, 100, 100))


def redness(image: Image.Image) -> np.ndarray:
    """[h, w]: how much redder than blue."""
    pixels = np.asarray(image, dtype=float)
    return pixels[:, :, 0] - pixels[:, :, 2]


def everywhere(shares: np.ndarray) -> np.ndarray:
    return np.ones(shares.shape, dtype=bool)


def test_the_hottest_place_is_the_cell_with_the_largest_share() -> None:
    shares = np.array([[0.1, 0.2, 0.0, 0.0], [0.0, 0.0, 0.6, 0.1]])
    hot = redness(heated(GREY, over_cells(shares, everywhere(shares), WHOLE)))
    row, column = np.unravel_index(hot.argmax(), hot.shape)
    assert row >= 20 and 40 <= column < 60  # the third of four columns, the lower of two rows
    assert hot[5, 75] == 0 and hot[30, 50] > hot[10, 30] > hot[35, 5]
    assert heated(Image.new("RGB", (4000, 1000)), over_cells(shares, everywhere(shares), WHOLE)).size == (352, 88)


def test_between_centres_of_cells_heat_is_linear() -> None:
    shares = np.array([[0.0, 1.0]])
    hot = redness(heated(Image.new("RGB", (100, 10)), over_cells(shares, everywhere(shares), WHOLE)))[5]
    by_hand = [0.8 * s * (255 - (70 - 50 * s)) for s in (0.0, 0.5 / 1.5, 1.0 / 1.5)]  # the mean is a half
    np.testing.assert_allclose(hot[[10, 49, 90]], by_hand, atol=3)


def test_even_heat_is_faint() -> None:
    even, one = np.ones((4, 4)), np.zeros((4, 4))
    one[1, 1] = 1
    faint, strong = (redness(heated(GREY, over_cells(s, everywhere(s), WHOLE))) for s in (even, one))
    np.testing.assert_allclose(faint, 0.8 / 3 * (255 - (70 - 50 / 3)), atol=2)
    assert strong.max() > 2.5 * faint.max()


def test_padded_cells_are_left_out_and_the_letterbox_is_undone() -> None:
    """A picture of 80 x 40 on a canvas of 80 x 80: of four rows of cells the middle two hold it."""
    transform = GridTransform("pad", 80, 80, "bilinear", (0.0,) * 3, (1.0,) * 3)
    assert transform.seen(80, 40) == (0.0, -0.5, 1.0, 1.5)
    shares, there = np.zeros((4, 4)), np.zeros((4, 4), dtype=bool)
    there[1:3] = True
    shares[1, 0], shares[0, 3] = 0.4, 0.6  # the largest share is of padding
    hot = redness(heated(GREY, over_cells(shares, there, transform.seen(80, 40))))
    row, column = np.unravel_index(hot.argmax(), hot.shape)
    assert row < 20 and column < 20 and hot[:, 60:].max() == 0
    assert (redness(heated(GREY, over_cells(np.zeros((4, 4)), there, WHOLE))) == 0).all()


@pytest.mark.parametrize(("size", "canvas"), [((640, 480), (384, 640)), ((480, 640), (640, 384)), ((333, 100), None)])
def test_where_a_grid_lies_is_where_the_canvas_puts_the_picture(
    size: tuple[int, int], canvas: tuple[int, int] | None
) -> None:
    transform = GridTransform("pad", 384, 640, "bilinear", (0.0,) * 3, (1.0,) * 3)
    _, inside = transform.on_canvas(transform(Image.new("RGB", size)))
    rows, columns = inside.shape
    assert canvas is None or (rows, columns) == canvas
    left, top, right, bottom = transform.seen(*size)
    where = np.argwhere(inside.numpy())
    (y0, x0), (y1, x1) = where.min(0), where.max(0) + 1
    width, height = x1 - x0, y1 - y0
    assert (left, right) == (-x0 / width, (columns - x0) / width)
    assert (top, bottom) == (-y0 / height, (rows - y0) / height)


def test_a_centre_crop_lies_within_the_picture() -> None:
    transform = Transform((224, 224), "shortest", 256, "bicubic")
    left, top, right, bottom = transform.seen(512, 256)
    assert (left, right) == (144 / 512, 368 / 512) and (top, bottom) == (16 / 256, 240 / 256)
    hot = redness(heated(GREY, over_cells(np.ones((7, 7)), np.ones((7, 7), dtype=bool), transform.seen(80, 40))))
    assert hot[20, 40] > 0 and hot[:, :20].max() == 0 and hot[:, 60:].max() == 0
    assert Transform((224, 224), "squash", 224).seen(99, 33) == WHOLE


def test_heat_of_regions_adds_where_they_overlap() -> None:
    boxes = np.array([[0.0, 0.0, 0.5, 1.0], [0.25, 0.5, 0.75, 1.0], [0.9, 0.9, 1.2, 1.3]])
    heat = over_regions(np.array([0.5, 0.3, 0.2]), boxes)(8, 4)
    by_hand = np.zeros((4, 8))
    by_hand[:, :4] += 0.5
    by_hand[2:, 2:6] += 0.3
    by_hand[3:, 7:] += 0.2
    np.testing.assert_allclose(heat, by_hand)


@pytest.mark.parametrize("transform", [
    GridTransform("warp", 600, 1000, "bilinear", (0.5,) * 3, (0.2,) * 3), Transform((224, 224), "shortest", 248)
])  # fmt: skip
def test_a_transform_is_read_back_from_a_teachers_identity(transform: Transform | GridTransform) -> None:
    assert recorded_transform(transform.identity()) == transform
