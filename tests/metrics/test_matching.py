"""Winoground's, ARO's and SugarCrepe's rules: hand-made ties, scalar loops, and CLIP_benchmark where no tie occurs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkd_cli.metrics.matching import first_above_rest, first_not_below_rest, macro_groups, winoground_right


def test_winoground_by_hand() -> None:
    """Rows are captions, columns pictures."""
    scores = np.array(
        [
            [[3, 1], [2, 4]],  # all right
            [[3, 1], [3, 4]],  # a tie of captions at picture 0: the text is wrong
            [[3, 3], [2, 4]],  # a tie of pictures for caption 0: the image is wrong
            [[3, 4], [2, 5]],  # texts right, caption 0 takes the other picture
            [[5, 2], [6, 7]],  # pictures right, picture 0 takes the other caption
            [[2, 2], [2, 2]],
            [[np.nan, 1], [1, 2]],
        ]
    )
    found = winoground_right(scores)
    assert found["text"].tolist() == [True, False, True, True, False, False, False]
    assert found["image"].tolist() == [True, True, False, False, True, False, False]
    assert found["group"].tolist() == [True, False, False, False, False, False, False]


def test_winoground_equals_scalar_loops_and_clip_benchmark() -> None:
    rng = np.random.default_rng(3)
    image, text = (torch.from_numpy(rng.standard_normal((60, 2, 8))) for _ in range(2))
    image, text = (rows / rows.norm(dim=-1, keepdim=True) for rows in (image, text))
    scores = torch.einsum("ncd,nid->nci", text, image).numpy()
    found = winoground_right(scores)
    for item, s in enumerate(scores):
        texts = s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1]
        images = s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]
        expected = (texts, images, texts and images)
        assert tuple(found[name][item] for name in ("text", "image", "group")) == expected
    assert all(0 < hits.mean() < 1 for hits in found.values())

    peer = pytest.importorskip("clip_benchmark.metrics.image_caption_selection", reason="clip-benchmark is absent")
    said = peer.evaluate(Chosen(image, text), loader(60), words, "cpu", amp=False)
    # Its text_acc takes each picture's nearest caption, its image_acc each caption's nearest picture.
    assert found["text"].mean() == pytest.approx(said["text_acc"])
    assert found["image"].mean() == pytest.approx(said["image_acc"])
    assert found["group"].mean() == pytest.approx(said["acc"])


class Chosen:
    """A model whose picture i and text i are rows of the given embeddings [n, 2, d]."""

    def __init__(self, image: torch.Tensor, text: torch.Tensor) -> None:
        self.image, self.text = image.flatten(0, 1), text.flatten(0, 1)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.image[pixels[:, 0, 0, 0].long()]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.text[tokens]


def loader(items: int) -> list[tuple[torch.Tensor, list[list[str]]]]:
    pixels = torch.arange(2 * items).view(items, 2, 1, 1, 1).float()
    return [(pixels, [[str(2 * i), str(2 * i + 1)] for i in range(items)])]


def words(texts: list[str]) -> torch.Tensor:
    return torch.tensor([int(text) for text in texts])


def test_ties_are_wrong_in_pairs_and_right_in_orders() -> None:
    scores = np.array([[2.0, 1, 0], [2, 2, 0], [1, 2, 0], [0, 0, 0], [np.nan, 0, 0], [1, np.nan, 0]])
    assert first_above_rest(scores).tolist() == [True, False, False, False, False, False]
    assert first_not_below_rest(scores).tolist() == [True, True, False, True, False, False]


def test_pairs_equal_clip_benchmark_without_ties() -> None:
    peer = pytest.importorskip("clip_benchmark.metrics.image_caption_selection", reason="clip-benchmark is absent")
    rng = np.random.default_rng(4)
    image, text = torch.from_numpy(rng.standard_normal((50, 1, 6))), torch.from_numpy(rng.standard_normal((50, 2, 6)))
    pixels = torch.arange(50).view(50, 1, 1, 1, 1).float()
    texts = [[str(2 * i), str(2 * i + 1)] for i in range(50)]
    said = peer.evaluate(Chosen(image, text), [(pixels, texts)], words, "cpu", amp=False)
    unit = torch.nn.functional.normalize(text, dim=-1)
    scores = (torch.nn.functional.normalize(image, dim=-1) * unit).sum(-1).numpy()
    assert first_above_rest(scores).mean() == pytest.approx(said["text_acc"])


def test_groups_of_a_macro_accuracy() -> None:
    names = ["on", "near", "on", "in", "near", "on", "by"]
    number, kept = macro_groups(names, at_least=2, without={"near"})
    assert kept == ["on"] and number.tolist() == [0, -1, 0, -1, -1, 0, -1]
    number, kept = macro_groups(names)
    assert kept == ["by", "in", "near", "on"] and number.tolist() == [3, 2, 3, 1, 2, 3, 0]
