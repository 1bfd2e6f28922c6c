"""Retrieval ranks against scalar loops and CLIP_benchmark, on random, tied and duplicated embeddings."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.retrieval import even_blocks, retrieval_ranks
from mmkd_cli.metrics.retrieval_scores import median_rank, retrieval_scores


def looped_ranks(images: Tensor, texts: Tensor, text_image: Tensor) -> tuple[list[int], list[int]]:
    """The rule, a pair at a time."""
    scores = (images @ texts.T).tolist()
    owner = text_image.tolist()
    image_ranks, text_ranks = [], []
    for i in range(len(images)):
        own = [scores[i][t] for t in range(len(texts)) if owner[t] == i]
        rivals = [scores[i][t] for t in range(len(texts)) if owner[t] != i]
        image_ranks.append(1 + sum(score >= max(own) for score in rivals) if own else 0)
    for t in range(len(texts)):
        rivals = [scores[i][t] for i in range(len(images)) if i != owner[t]]
        text_ranks.append(1 + sum(score >= scores[owner[t]][t] for score in rivals) if owner[t] >= 0 else 0)
    return image_ranks, text_ranks


def small_integers(rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Embeddings whose scores are exact in any order of summation, and often tie."""
    return torch.randint(-2, 3, (rows, width), generator=generator).float()


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 30),
    m=st.integers(1, 70),
    width=st.integers(1, 4),
    lowest=st.sampled_from([-1, 0]),
    image_block=st.integers(1, 9),
    text_block=st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_ranks_equal_scalar_loops_with_ties(
    seed: int, n: int, m: int, width: int, lowest: int, image_block: int, text_block: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, texts = small_integers(n, width, generator), small_integers(m, width, generator)
    text_image = torch.randint(lowest, n, (m,), generator=generator)
    text_image[0] = text_image[0].clamp(min=0)
    ranks = retrieval_ranks(images, texts, text_image, image_block=image_block, text_block=text_block)
    expected = looped_ranks(images, texts, text_image)
    assert (ranks.image_to_text.tolist(), ranks.text_to_image.tolist()) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_random_ranks_equal_scalar_loops(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    images, texts = torch.randn(60, 16).to(dtype), torch.randn(300, 16).to(dtype)
    text_image = torch.randint(0, 60, (300,))
    ranks = retrieval_ranks(images, texts, text_image, image_block=16, text_block=50)
    expected = looped_ranks(images.double(), texts.double(), text_image)
    assert (ranks.image_to_text.tolist(), ranks.text_to_image.tolist()) == expected


def test_ranks_under_autocast_are_those_of_full_precision() -> None:
    torch.manual_seed(4)
    images, texts, text_image = torch.randn(70, 64), torch.randn(200, 64), torch.randint(0, 70, (200,))
    plain = retrieval_ranks(images, texts, text_image, image_block=20, text_block=30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = retrieval_ranks(images, texts, text_image, image_block=20, text_block=30)
    assert torch.equal(plain.image_to_text, lowered.image_to_text)
    assert torch.equal(plain.text_to_image, lowered.text_to_image)


@pytest.mark.parametrize("width", [37, 512])
def test_equal_rows_tie_wherever_they_stand(width: int) -> None:
    """A collapsed model: every candidate scores the same, so every rank is the last, block edges included."""
    n, m = 301, 1507
    image, text = torch.nn.functional.normalize(torch.randn(2, width), dim=1)
    text_image = torch.arange(m) % n
    ranks = retrieval_ranks(image.expand(n, width), text.expand(m, width), text_image, image_block=64, text_block=250)
    own = torch.bincount(text_image)
    assert torch.equal(ranks.image_to_text, 1 + m - own)
    assert torch.equal(ranks.text_to_image, torch.full((m,), n))
    scores = retrieval_scores(ranks)
    assert scores["mean_recall"] == 0.0 and scores["text_to_image_median_rank"] == n


def test_duplicated_pictures_tie_with_each_other() -> None:
    """Two copies of each picture, far apart: a caption ranks its own second, behind the copy that ties."""
    torch.manual_seed(0)
    pictures = torch.nn.functional.normalize(torch.randn(150, 96), dim=1)
    images, text_image = pictures.repeat(2, 1), torch.arange(300)
    ranks = retrieval_ranks(images, images.clone(), text_image, image_block=40, text_block=70)
    assert torch.equal(ranks.text_to_image, torch.full((300,), 2))
    assert torch.equal(ranks.image_to_text, torch.full((300,), 2))


@given(seed=st.integers(0, 2**31), image_block=st.integers(1, 40), text_block=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_ranks_do_not_depend_on_order_or_blocks(seed: int, image_block: int, text_block: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, texts = small_integers(25, 3, generator), small_integers(80, 3, generator)
    text_image = torch.randint(0, 25, (80,), generator=generator)
    whole = retrieval_ranks(images, texts, text_image)
    moved, shuffle = torch.randperm(25, generator=generator), torch.randperm(80, generator=generator)
    place = torch.empty_like(moved)
    place[moved] = torch.arange(25)
    other = retrieval_ranks(
        images[moved], texts[shuffle], place[text_image[shuffle]], image_block=image_block, text_block=text_block
    )
    assert torch.equal(other.image_to_text, whole.image_to_text[moved])
    assert torch.equal(other.text_to_image, whole.text_to_image[shuffle])


def test_recalls_equal_clip_benchmark_where_nothing_ties() -> None:
    peer = pytest.importorskip(
        "clip_benchmark.metrics.zeroshot_retrieval", reason="clip-benchmark is not installed (pip install --no-deps)"
    )
    torch.manual_seed(1)
    n, m = 120, 600
    texts = torch.nn.functional.normalize(torch.randn(m, 24), dim=1)
    text_image = torch.arange(m) // 5
    images = torch.nn.functional.normalize(texts.view(n, 5, 24).mean(dim=1) + 0.3 * torch.randn(n, 24), dim=1)
    product = texts @ images.T
    own = torch.zeros_like(product, dtype=torch.bool)
    own[torch.arange(m), text_image] = True
    scores = retrieval_scores(retrieval_ranks(images, texts, text_image, image_block=50, text_block=90))
    for k in (1, 5, 10):
        to_image = (peer.batchify(peer.recall_at_k, product, own, 64, "cpu", k=k) > 0).double().mean().item()
        to_text = (peer.batchify(peer.recall_at_k, product.T, own.T, 64, "cpu", k=k) > 0).double().mean().item()
        assert 0 < to_image < 1 and to_text > 0
        assert scores[f"text_to_image_recall@{k}"] == pytest.approx(100 * to_image)
        assert scores[f"image_to_text_recall@{k}"] == pytest.approx(100 * to_text)


def test_scores_of_a_hand_made_case() -> None:
    """Ranks image to text 1, 2; text to image 1, 1, 2 (a tie of the last caption's two pictures)."""
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.9], [0.0, 0.5], [0.2, 0.2]])
    ranks = retrieval_ranks(images, texts, torch.tensor([0, 1, 1]))
    assert ranks.image_to_text.tolist() == [1, 2] and ranks.text_to_image.tolist() == [1, 1, 2]
    scores = retrieval_scores(ranks)
    assert scores == {
        "image_to_text_recall@1": 50.0,
        "image_to_text_recall@5": 100.0,
        "image_to_text_recall@10": 100.0,
        "text_to_image_recall@1": pytest.approx(200 / 3),
        "text_to_image_recall@5": 100.0,
        "text_to_image_recall@10": 100.0,
        "mean_recall": pytest.approx((50 + 200 / 3 + 400) / 6),
        "image_to_text_median_rank": 1.5,
        "text_to_image_median_rank": 1.0,
    }


def test_candidates_that_are_no_queries_compete_but_are_not_scored() -> None:
    images = torch.tensor([[1.0, 0.0], [2.0, 0.0]])  # the second has no caption and outranks the first
    texts = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # the second has no picture and outranks the first
    ranks = retrieval_ranks(images, texts, torch.tensor([0, -1]))
    assert ranks.image_to_text.tolist() == [2, 0] and ranks.text_to_image.tolist() == [2, 0]
    assert retrieval_scores(ranks)["image_to_text_median_rank"] == 2.0


@pytest.mark.parametrize(
    ("images", "texts", "text_image", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), torch.tensor([0, 1]), "one width"),
        (torch.zeros(2, 3), torch.zeros(0, 3), torch.tensor([], dtype=torch.long), "neither empty"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0]), "the image row of each text"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "the image row of each text"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 2]), "rows 0 to 2 of 2 images"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, -2]), "rows -2 to 0 of 2 images"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([-1, -1]), "at least one"),
        (torch.full((2, 3), torch.nan), torch.zeros(2, 3), torch.tensor([0, 1]), "NaN"),
        (torch.zeros(2, 3), torch.full((2, 3), torch.inf), torch.tensor([0, 1]), "NaN"),
        (torch.full((2, 3), 1e30), torch.full((2, 3), 1e30), torch.tensor([0, 1]), "overflowing"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    images: Tensor, texts: Tensor, text_image: Tensor, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        retrieval_ranks(images, texts, text_image)


@given(rows=st.integers(1, 500), block_rows=st.integers(1, 60))
def test_even_blocks_cover_all_rows_once_in_sizes_that_differ_by_one(rows: int, block_rows: int) -> None:
    blocks = even_blocks(rows, block_rows)
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(rows))
    sizes = {block.stop - block.start for block in blocks}
    assert max(sizes) <= block_rows and max(sizes) - min(sizes) <= 1


def test_median_is_the_mean_of_the_two_middle_ranks() -> None:
    assert median_rank(torch.tensor([9, 1, 4, 2])) == 3.0
    assert median_rank(torch.tensor([9, 1, 4])) == 4.0
