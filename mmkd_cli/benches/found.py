"""What each query of a retrieval found: its rank and its best candidates, with the names that people know them by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.benches.embedding import PairRows, Pairs
from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.data.pictures import decode
from mmkd_cli.metrics.retrieval import RECALL_KS, RetrievalRanks

if TYPE_CHECKING:
    import datasets
    from PIL.Image import Image

TOP = 5
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Names:
    """Ids, texts and pictures of what is scored, by place in the embeddings; of a file's embeddings, row numbers."""

    rows: PairRows
    images: datasets.Dataset | None = None
    texts: datasets.Dataset | None = None

    @classmethod
    def of(cls, given: BenchInput, rows: PairRows) -> Names:
        if given.embeddings is not None or given.data is None or given.split is None:
            return cls(rows)
        return cls(rows, *(given.data.table(name, given.split).with_format("arrow") for name in ("images", "texts")))

    @cached_property
    def image_ids(self) -> list[str]:
        return _column(self.images, "image_id", self.rows.images)

    @cached_property
    def text_ids(self) -> list[str]:
        return _column(self.texts, "text_id", self.rows.texts)

    def text(self, place: int) -> str:
        """A text; of a file's embeddings its row."""
        return f"text {place}" if self.texts is None else str(self._cell(self.texts, "text", self.rows.texts[place]))

    def picture(self, place: int) -> Image | None:
        """A picture as it is stored; None where there are only embeddings."""
        if self.images is None:
            return None
        return decode(self._cell(self.images, "image", self.rows.images[place])["bytes"])

    def image_order(self) -> Tensor | None:
        """Places of the pictures in the order of their ids (numbers as numbers); None where there are no ids."""
        if self.images is None:
            return None
        numeric = all(name.isdecimal() for name in self.image_ids)
        return torch.tensor(
            sorted(range(len(self.image_ids)), key=lambda i: int(self.image_ids[i]) if numeric else self.image_ids[i])
        )

    @staticmethod
    def _cell(table: datasets.Dataset, column: str, row: int) -> Any:
        return table[[int(row)]].column(column)[0].as_py()


@dataclass(frozen=True)
class Direction:
    """Queries of one direction. ranks [q] (0: no query), top [q, k] candidates best first, scores [q, k]."""

    name: str
    ranks: NDArray[np.int64]
    top: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Found:
    """Both directions. text_image [m]: each text's picture."""

    image_to_text: Direction
    text_to_image: Direction
    text_image: NDArray[np.int64]

    def is_own(self, direction: Direction, query: int, candidate: int) -> bool:
        """Whether a candidate belongs to a query."""
        image, text = (query, candidate) if direction is self.image_to_text else (candidate, query)
        return int(self.text_image[text]) == image

    def items(self, names: Names) -> Iterator[dict[str, Any]]:
        """One JSON object a query, pictures first."""
        for direction, queries, candidates in (
            (self.image_to_text, names.image_ids, names.text_ids),
            (self.text_to_image, names.text_ids, names.image_ids),
        ):
            for query in np.flatnonzero(direction.ranks).tolist():
                top = zip(direction.top[query].tolist(), direction.scores[query].tolist(), strict=True)
                rank = int(direction.ranks[query])
                image = query if direction is self.image_to_text else int(self.text_image[query])
                yield {
                    "id": f"{direction.name}/{queries[query]}",
                    "direction": direction.name,
                    "query": queries[query],
                    "image": names.image_ids[image],
                    "rank": rank,
                    "right": {f"{direction.name}_recall@{k}": rank <= k for k in RECALL_KS},
                    "top": [
                        {"id": candidates[c], "score": score, "own": self.is_own(direction, query, c)}
                        for c, score in top
                    ],
                }


def find(pairs: Pairs, ranks: RetrievalRanks) -> Found:
    """The best candidates of every query; memory is one block of scores."""
    images = Direction("image_to_text", ranks.image_to_text.cpu().numpy(), *_best(pairs.images, pairs.texts))
    texts = Direction("text_to_image", ranks.text_to_image.cpu().numpy(), *_best(pairs.texts, pairs.images))
    return Found(images, texts, pairs.text_image.numpy())


def _best(queries: Tensor, candidates: Tensor) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
    """queries [q, d], candidates [c, d] -> the TOP best of each query [q, min(TOP, c)] and their scores."""
    blocks = [
        torch.topk(part @ candidates.T, min(TOP, len(candidates)), dim=1) for part in queries.split(_QUERIES_AT_ONCE)
    ]
    return torch.cat([b.indices for b in blocks]).numpy(), torch.cat([b.values for b in blocks]).numpy()


def _column(table: datasets.Dataset | None, column: str, rows: NDArray[np.int64]) -> list[str]:
    if table is None:
        return [str(row) for row in rows.tolist()]
    names = table.select_columns([column])[:].column(column).to_pylist()
    return [str(names[row]) for row in rows.tolist()]
