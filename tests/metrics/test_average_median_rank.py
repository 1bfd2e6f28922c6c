"""AMR against scalar loops over folds and slots."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor

from mmkd_cli.metrics.average_median_rank import average_median_rank


def looped_amr(
    images: Tensor, texts: Tensor, text_image: list[int], order: list[int], fold_images: int, slots: int
) -> tuple[float, float]:
    """Both AMRs from the definition, a pair at a time."""
    captions: dict[int, list[int]] = {}
    for t, i in enumerate(text_image):
        captions.setdefault(i, []).append(t)
    folds = [order[k : k + fold_images] for k in range(0, len(order) - fold_images + 1, fold_images)]
    to_text, to_image = [], []
    for fold in folds:
        fold_text, fold_image = [], []
        for slot in range(slots):
            score = {(i, j): (images[i] @ texts[captions[j][slot]]).item() for i in fold for j in fold}
            fold_text.append(
                statistics.median(1 + sum(score[i, j] >= score[i, i] for j in fold if j != i) for i in fold)
            )
            fold_image.append(
                statistics.median(1 + sum(score[i, j] >= score[j, j] for i in fold if i != j) for j in fold)
            )
        to_text.append(statistics.mean(fold_text))
        to_image.append(statistics.mean(fold_image))
    return statistics.mean(to_text), statistics.mean(to_image)


@pytest.mark.parametrize("ordered", [False, True])
def test_amr_equals_scalar_loops(ordered: bool) -> None:
    """Seven captions on some pictures, of which five count; 34 pictures give three folds of ten, four left over."""
    torch.manual_seed(5)
    images = torch.randint(-3, 4, (34, 4)).float()
    text_image = [i for i in range(34) for _ in range(5 + 2 * (i % 3 == 0))]
    texts = torch.stack([images[i] for i in text_image]) + torch.randint(-3, 4, (len(text_image), 4))
    shuffle = torch.randperm(len(text_image))
    texts, text_image = texts[shuffle], [text_image[t] for t in shuffle.tolist()]
    order = torch.randperm(34) if ordered else torch.arange(34)
    expected = looped_amr(images, texts, text_image, order.tolist(), 10, 5)
    amr = average_median_rank(
        images, texts, torch.tensor(text_image), image_order=order if ordered else None, fold_images=10
    )
    assert (amr.image_to_text, amr.text_to_image) == pytest.approx(expected)
    assert (amr.folds, amr.fold_images) == (3, 10)
    assert amr.scores() == {"image_to_text_amr": amr.image_to_text, "text_to_image_amr": amr.text_to_image}


def test_fewer_pictures_than_a_fold_make_one_fold_of_those_with_captions() -> None:
    torch.manual_seed(6)
    images, texts = torch.randint(-3, 4, (9, 3)).float(), torch.randint(-3, 4, (17, 3)).float()
    text_image = [-1] + [i for i in range(9) if i != 4 for _ in range(2)]  # picture 4 has no caption
    amr = average_median_rank(images, texts, torch.tensor(text_image))
    kept = [i for i in range(9) if i != 4]
    assert (amr.image_to_text, amr.text_to_image) == pytest.approx(looped_amr(images, texts, text_image, kept, 8, 2))
    assert (amr.folds, amr.fold_images) == (1, 8)


def test_chance_is_half_a_fold_and_a_perfect_model_scores_one() -> None:
    torch.manual_seed(7)
    images, text_image = torch.nn.functional.normalize(torch.randn(400, 32), dim=1), torch.arange(400).repeat(2)
    perfect = average_median_rank(images, images.repeat(2, 1), text_image, fold_images=100)
    assert (perfect.image_to_text, perfect.text_to_image, perfect.folds) == (1.0, 1.0, 4)
    chance = average_median_rank(images, torch.randn(800, 32), text_image, fold_images=100)
    assert chance.image_to_text == pytest.approx(50, abs=10) and chance.text_to_image == pytest.approx(50, abs=10)
