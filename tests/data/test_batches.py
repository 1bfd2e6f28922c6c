"""Batches ahead of a model: in order, equal however they are made, rejected rows as zeros, errors raised."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import datasets
import numpy as np
import pytest
import torch

from mmkd_cli.data.batches import batches
from mmkd_cli.data.pictures import PictureError, Transform, decode
from mmkd_cli.data.tables import image_features, text_features
from mmkd_cli.data.views import ViewSpec, view
from tests.data.made_pictures import jpeg

TRANSFORM = Transform(size=(16, 16), resize_size=20)
ROWS = [np.array([0, 1, 2]), np.array([5, 4]), np.array([3]), np.array([7, 7, 0, 6])]


def images(count: int = 8, null: int | None = 4, bad: int | None = None) -> datasets.Dataset:
    rows = [
        {"image_id": f"p{n}", "image": None if n == null else {"bytes": b"bad" if n == bad else jpeg(n), "path": None},
         "width": 40, "height": 30, "source": ""}
        for n in range(count)
    ]  # fmt: skip
    return datasets.Dataset.from_list(rows, features=image_features())


def count_words(texts: Sequence[str]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[len(text.split())] for text in texts])}


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_come_in_order_and_rejected_ones_are_zeros(workers: int) -> None:
    table = images()
    found = list(batches(table, "images", ROWS, transform=TRANSFORM, workers=workers))
    assert [batch["row"].tolist() for batch in found] == [rows.tolist() for rows in ROWS]
    for batch, rows in zip(found, ROWS, strict=True):
        assert batch["id"] == [f"p{row}" for row in rows]
        assert batch["pixels"].dtype == torch.uint8 and batch["pixels"].shape == (len(rows), 3, 16, 16)
        for pixels, row in zip(batch["pixels"], rows.tolist(), strict=True):
            assert torch.equal(pixels, torch.zeros(3, 16, 16) if row == 4 else TRANSFORM(decode(jpeg(row))))


def test_views_are_those_of_their_rows() -> None:
    view_of = functools.partial(view, ViewSpec(), 7, "train")
    asked = [(rows, np.arange(len(rows)) % 3) for rows in ROWS]
    found = list(batches(images(), "images", asked, transform=TRANSFORM, views=view_of))
    assert found[3]["view"].tolist() == [0, 1, 2, 0]
    assert torch.equal(found[3]["pixels"][1], TRANSFORM(decode(jpeg(7)), view_of(7, 1)))
    assert not torch.equal(found[3]["pixels"][0], found[3]["pixels"][1])


def test_texts_are_tokenised() -> None:
    rows = [{"text_id": str(n), "text": "word " * n, "image_row": -1} for n in range(8)]
    table = datasets.Dataset.from_list(rows, features=text_features())
    found = list(batches(table, "texts", ROWS, tokenize=count_words))
    assert found[1]["input_ids"].tolist() == [[5], [4]] and found[1]["id"] == ["5", "4"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_raised_at_its_batch(workers: int) -> None:
    stream = batches(images(bad=3), "images", ROWS, transform=TRANSFORM, workers=workers)
    next(stream), next(stream)
    with pytest.raises(PictureError, match=r"^it is no picture"):
        next(stream)


def test_rows_are_asked_for_only_a_few_batches_ahead() -> None:
    asked = []

    def rows() -> Iterator[np.ndarray]:
        for n in range(8):
            asked.append(n)
            yield np.array([n])

    stream = batches(images(), "images", rows(), transform=TRANSFORM)
    next(stream)
    assert len(asked) <= 3
    stream.close()
