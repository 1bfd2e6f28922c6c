"""Pictures and texts of a split, or of a file, as vectors that a dot product compares."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches.embeddings_file import float_array, integer_array
from mmkd_cli.core import console
from mmkd_cli.core.contracts import Batch, BenchInput, DualEncoder
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.batches import batches

# Rows whose squared length is this near to 1 are normalised already and are compared by the very numbers given.
_UNIT = 1e-5

PROBE_BATCHES = 2
"""Batches of pictures and of texts that are embedded to estimate the time of all."""


LAYOUT = (
    "image [n, d] and text [m, d] (float16, bfloat16, float32 or float64), text_image [m] (integers: the row of each "
    "text's picture, from 0; -1 without one)"
)
"""Arrays of ready embeddings, in words."""


@dataclass(frozen=True)
class PairRows:
    """Rows of a split that are scored: images [n], texts [m] table rows, text_image [m] places in `images`, or -1.

    skipped: rejected pictures, and texts that went with them.
    """

    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    text_image: NDArray[np.int64]
    skipped_images: int = 0
    skipped_texts: int = 0


@dataclass(frozen=True)
class Pairs:
    """Normalised embeddings on the CPU, float32 or float64: images [n, d], texts [m, d], text_image [m] int64."""

    images: Tensor
    texts: Tensor
    text_image: Tensor
    rows: PairRows


def paired(given: BenchInput, layer: str | None = None) -> Pairs:
    """Embed the split with the model (at `layer`), or take the embeddings given."""
    if given.embeddings is not None:
        arrays = given.embeddings
        images, texts = (torch.from_numpy(float_array(arrays, k, "rows d", LAYOUT)) for k in ("image", "text"))
        text_image = integer_array(arrays, "text_image", len(texts), LAYOUT)
        rows = PairRows(np.arange(len(images)), np.arange(len(texts)), text_image)
        return Pairs(normalized(images), normalized(texts), torch.from_numpy(text_image), rows)
    if given.model is None or given.data is None or given.split is None:
        raise UserError("there is nothing to score: give --model and --data, or --embeddings")
    rows = pair_rows(given.data, given.split)
    images = embed_images(given, rows.images, layer)
    texts = embed_texts(given, rows.texts, layer)
    return Pairs(images, texts, torch.from_numpy(rows.text_image), rows)


def pair_rows(data: object, split: str) -> PairRows:
    """The rows of prepared data that can be scored; what was rejected is left out with its texts."""
    images, texts = data.table("images", split), data.table("texts", split)  # type: ignore[attr-defined]
    owner = np.asarray(texts.with_format("numpy")["image_row"][:], dtype=np.int64)
    bad_images = data.rejected(split, "images")  # type: ignore[attr-defined]
    bad_texts = np.isin(owner, bad_images)
    bad_texts[data.rejected(split, "texts")] = True  # type: ignore[attr-defined]
    kept = np.delete(np.arange(len(images)), bad_images)
    place = np.full(len(images) + 1, -1)  # the last entry answers for row -1, a text without a picture
    place[kept] = np.arange(len(kept))
    if not len(kept) or bad_texts.all():
        raise UserError(f"split {split!r} has no picture with a text to score: choose another --split")
    return PairRows(kept, np.flatnonzero(~bad_texts), place[owner[~bad_texts]], len(bad_images), int(bad_texts.sum()))


def embed_images(given: BenchInput, rows: NDArray[np.int64], layer: str | None = None) -> Tensor:
    """[len(rows), d] normalised float32: from the cached signal where the model starts from one, else from pixels."""
    model = _model(given)
    targets = given.targets(given.split) if given.targets and model.image_signal and given.split else None
    cut = _cut(rows, given.batch_size)
    source: Iterator[Batch]
    if targets is not None and model.image_signal is not None:
        signal = model.image_signal
        first_view = targets.n_views > 0  # while training from augmented views; `evaluate` takes no such cache
        source = (
            {**targets.gather([signal], part, np.zeros_like(part) if first_view else None),
             "row": torch.from_numpy(part)}
            for part in cut
        )  # fmt: skip
    else:
        source = batches(
            given.data.table("images", str(given.split)), "images", cut,
            transform=model.picture_transform, workers=given.workers,
        )  # fmt: skip
    return _embed(given, source, "images", len(rows), layer)


def embed_texts(given: BenchInput, rows: NDArray[np.int64], layer: str | None = None) -> Tensor:
    """[len(rows), d] normalised float32."""
    table = given.data.table("texts", str(given.split))
    source = batches(table, "texts", _cut(rows, given.batch_size), tokenize=_model(given).tokenize)
    return _embed(given, source, "texts", len(rows), layer)


def probe(given: BenchInput, images: NDArray[np.int64], texts: NDArray[np.int64]) -> tuple[int, float]:
    """How many rows of `given.data` are embedded, and the seconds of all, from a few of each kind."""
    seconds = 0.0
    for embed, every in ((embed_images, images), (embed_texts, texts)):
        some = every[: PROBE_BATCHES * given.batch_size]
        began = time.perf_counter()
        embed(given, some, given.layer)
        seconds += (time.perf_counter() - began) / len(some) * len(every)
    return len(images) + len(texts), seconds


def normalized(rows: Tensor) -> Tensor:
    """rows [n, d] with length 1 each, float64 if they are, else float32."""
    rows = rows if rows.dtype == torch.float64 else rows.float()
    unit = bool((rows.square().sum(dim=1) - 1).abs().max() < _UNIT)
    return rows if unit else F.normalize(rows, dim=1)


@torch.no_grad()
def _embed(given: BenchInput, source: Iterator[Batch], what: str, rows: int, layer: str | None) -> Tensor:
    model = _model(given)
    embed = model.embed_images if what == "images" else model.embed_texts
    out: Tensor | None = None
    done = 0
    lowered = torch.autocast(given.device.partition(":")[0], torch.bfloat16, enabled=given.precision == "bfloat16")
    with lowered, console.progress(f"embedding {what}", rows, what) as meter:
        for batch in source:
            moved = {k: v.to(given.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            moved["split"] = given.split  # a teacher behind the model may ask where its rows are from
            vectors = F.normalize(embed(moved, layer).float(), dim=1).cpu()
            if out is None:
                out = torch.empty(rows, vectors.shape[1])
            out[done : done + len(vectors)] = vectors
            done += len(vectors)
            meter.advance(len(vectors))
    assert out is not None and done == rows
    return out


def _model(given: BenchInput) -> DualEncoder:
    if given.model is None:
        raise UserError("there is no model to embed with: give --model")
    return given.model


def _cut(rows: NDArray[np.int64], size: int) -> Sequence[NDArray[np.int64]]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]
