"""Pictures show what their descriptions say, read back from the pixels by formulas of the test's own."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mmkd_cli import scenes
from mmkd_cli.scenes import Ground, Scene, SceneObject
from mmkd_cli.scenes.geometry import is_inside, is_touching
from mmkd_cli.scenes.vocabulary import VOCABULARY, rgb
from tests.scenes.picture_reader import SCALE, SIDE, Blob, grow, read_blobs, silhouette

ROWS = [scenes.scene(3, index, split) for split in ("train", "test") for index in range(60)]


def blob_of(item: SceneObject, blobs: list[Blob]) -> Blob:
    """The one patch of an object's colour whose box is the object's."""
    found = [
        blob
        for blob in blobs
        if blob.colour == item.colour
        and abs((blob.left + blob.right) / 2 - item.x) <= 0.15 * item.radius + 0.5
        and abs((blob.top + blob.bottom) / 2 - item.y) <= 0.15 * item.radius + 0.5
        and 0.72 * item.radius <= max(blob.right - blob.left, blob.bottom - blob.top) / 2 <= item.radius
    ]
    assert len(found) == 1, (item, [(b.colour, b.left, b.top, b.right, b.bottom) for b in blobs])
    return found[0]


def is_part_of(blob: Blob, item: SceneObject) -> bool:
    """Whether a patch has an object's colour and lies within its box."""
    low, high = min(blob.left - item.x, blob.top - item.y), max(blob.right - item.x, blob.bottom - item.y)
    return blob.colour == item.colour and -item.radius <= low and high <= item.radius


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.split}-{row.index}")
def test_every_object_is_one_patch_at_its_place_and_nothing_else_is_drawn(row: Scene) -> None:
    blobs = read_blobs(scenes.draw(row, SIDE))
    found = [blob_of(item, blobs) for item in row.objects]
    for blob in blobs:
        assert any(is_part_of(blob, item) for item in row.objects)
    for (a, blob_a), (b, blob_b) in combinations(zip(row.objects, found, strict=True), 2):
        nested = is_inside(a, b) or is_inside(b, a)
        if is_touching(a, b):
            assert (grow(blob_a.mask, round(1.5 * SCALE)) & blob_b.mask).any()
        elif not nested:
            assert not (grow(blob_a.mask, 2 * SCALE) & blob_b.mask).any()
        else:
            outer, inner = (blob_a, blob_b) if is_inside(b, a) else (blob_b, blob_a)
            assert outer.left < inner.left and inner.right < outer.right
            assert outer.top < inner.top and inner.bottom < outer.bottom


@pytest.mark.parametrize("size", scenes.SIZES)
@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_a_shape_is_most_like_its_own_formula(shape: str, size: str) -> None:
    radius = VOCABULARY["sizes"][size]["radius"]
    row = Scene(
        0, "train", 0, (SceneObject(shape, "red", size, "solid", 30, 32, radius),), Ground("white", "plain"), ()
    )
    drawn = (scenes.draw(row, SIDE)[:, :, 1] < 140).astype(bool)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    x, y = (x + 0.5) / SCALE - 30, (y + 0.5) / SCALE - 32
    overlap = {}
    for other in scenes.SHAPES:
        mask = silhouette(other, radius, x, y)
        overlap[other] = (mask & drawn).sum() / (mask | drawn).sum()
    assert max(overlap, key=overlap.__getitem__) == shape
    assert overlap[shape] > 0.85


@pytest.mark.parametrize("shape", [shape for shape in scenes.SHAPES if shape != "moon"])
def test_fills_differ_in_the_runs_of_colour_down_the_middle(shape: str) -> None:
    runs = {}
    for fill in scenes.FILLS:
        item = SceneObject(shape, "blue", "large", fill, 32, 32, 14)
        column = scenes.draw(Scene(0, "train", 0, (item,), Ground("beige", "plain"), ()), SIDE)[:, SIDE // 2]
        pure = np.abs(column.astype(int) - rgb("blue")).max(axis=1) <= 1
        runs[fill] = int((np.diff(pure.astype(int)) == 1).sum())
    assert runs["solid"] == 1 and runs["outline"] == 2 and runs["striped"] >= 4


@pytest.mark.parametrize("colour", scenes.GROUND_COLOURS)
def test_textures_differ_by_where_their_second_tone_lies(colour: str) -> None:
    def varies(texture: str) -> tuple[bool, bool, bool]:
        item = SceneObject("circle", "red", "small", "solid", 32, 32, 6)
        picture = scenes.draw(Scene(0, "train", 0, (item,), Ground(colour, texture), ()), 64).astype(int)
        assert np.abs(picture[:8].reshape(-1, 3) - rgb(colour)).max() <= 20
        top = picture[:8, :8]
        return (
            bool((top != top[:, :1]).any()),
            bool((top != top[:1]).any()),
            bool((top[0] != top[0, 0]).any()),
        )

    assert varies("plain") == (False, False, False)
    assert varies("lined") == (False, True, False)
    assert varies("dotted") == (True, True, False)
    assert varies("checkered") == (True, True, True)


@pytest.mark.parametrize("size", [16, 37, 64, 100, 224])
def test_any_size_shows_the_same_scene(size: int) -> None:
    for row in ROWS[:20]:
        picture = scenes.draw(row, size)
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
        large = scenes.draw(row, 8 * size).astype(float).reshape(size, 8, size, 8, 3).mean(axis=(1, 3))
        assert np.abs(picture - large).mean() < 6


def test_drawing_leaves_the_ground_it_keeps_unchanged() -> None:
    row = ROWS[0]
    first = scenes.draw(row)
    first_bytes = first.tobytes()
    first[:] = 0
    assert scenes.draw(row).tobytes() == first_bytes
