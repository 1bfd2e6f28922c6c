"""Scores of pairs of a picture and a caption: cosines of a model's embeddings, or of ready ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches.embedding import embed_images, embed_texts, normalized
from mmkd_cli.benches.embeddings_file import float_array
from mmkd_cli.benches.pair_items import PairItems, Pairs, Part
from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.core.errors import UserError

Scores = Mapping[str, NDArray[np.floating]]
"""Part -> [n, k]."""

_ITEMS_AT_ONCE = 1024


def model_scores(given: BenchInput, items: PairItems) -> Scores:
    """Cosines by the model of every pair; each distinct picture and caption is embedded once."""
    own = embeddable(given, items)
    images = embed_images(own, np.arange(len(own.data.images)), given.layer)
    texts = embed_texts(own, np.arange(len(items.texts)), given.layer)
    return {name: cosines(images, texts, part.pairs) for name, part in items.parts.items()}


def embeddable(given: BenchInput, items: PairItems) -> BenchInput:
    """The same, with the items in the place of prepared data."""
    return replace(given, data=items.data(), split="test", targets=None)


def cosines(images: Tensor, texts: Tensor, pairs: Pairs) -> NDArray[np.floating]:
    """images [a, d], texts [b, d] normalised, pairs [n, k, 2] -> float64 [n, k].

    Every pair is summed up by itself and alike, so that equal embeddings score equal whatever stands beside them.
    """
    blocks = []
    for block in torch.from_numpy(pairs).split(_ITEMS_AT_ONCE):
        blocks.append((images[block[..., 0]].double() * texts[block[..., 1]].double()).sum(dim=-1))
    return torch.cat(blocks).numpy()


# ------------------------------------------------------------------------------------------------ ready embeddings
def ready_scores(images: NDArray[np.floating], texts: NDArray[np.floating], pairs: Pairs) -> NDArray[np.floating]:
    """images [a, d], texts [b, d] as they came -> float64 [n, k]; UserError where their widths differ."""
    if images.shape[1] != texts.shape[1]:
        raise UserError(
            f"embeddings: pictures are {images.shape[1]} wide, texts {texts.shape[1]}: give both of one width"
        )
    return cosines(normalized(torch.from_numpy(images)), normalized(torch.from_numpy(texts)), pairs)


def ready_by_name(
    arrays: Mapping[str, NDArray[np.generic]], names: Sequence[str], layout: str
) -> dict[str, NDArray[np.floating]]:
    """Scores [n, k] of those names that the file has: NAME.image [n, d], NAME.text [n, k, d], text 0 the caption."""
    found = {}
    for name in names:
        if f"{name}.image" not in arrays and f"{name}.text" not in arrays:
            continue
        images = float_array(arrays, f"{name}.image", "n d", layout)
        texts = float_array(arrays, f"{name}.text", "n k d", layout)
        n, k = texts.shape[:2]
        if len(images) != n or k < 2:
            raise UserError(
                f"embeddings: {name}.image has {len(images):,} rows, {name}.text is {list(texts.shape)}: give a "
                "picture and at least two texts an item"
            )
        found[name] = ready_scores(images, texts.reshape(n * k, -1), first_picture_pairs(n, k))
    if not found:
        there = ", ".join(map(repr, arrays)) or "none"
        raise UserError(f"embeddings have none of {', '.join(names)}, their arrays are {there}: give {layout}")
    return found


def first_picture_pairs(n: int, k: int) -> Pairs:
    """Item i: picture i with texts i k to i k + k - 1. [n, k, 2]"""
    text = np.arange(n * k).reshape(n, k)
    return np.stack([np.broadcast_to(np.arange(n)[:, None], text.shape), text], axis=2)


def unnamed(scores: Scores) -> PairItems:
    """Items that are known by their embeddings alone: rows stand for names."""
    parts = {}
    texts: list[str] = []
    for name, found in scores.items():
        n, k = found.shape
        pairs = first_picture_pairs(n, k)
        pairs[..., 1] += len(texts)
        texts += [f"text {j} of row {i}" for i in range(n) for j in range(k)]
        parts[name] = Part([str(i) for i in range(n)], pairs, [f"row {i}" for i in range(n)])
    return PairItems(parts, texts, None)
