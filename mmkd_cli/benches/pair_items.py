"""Items of the compositional benches: a few pairs of a picture and a caption each, of which some belong together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches.own_tables import OwnData, Pictures, Texts

Pairs = NDArray[np.int64]
"""[n, k, 2]: of each item's k pairs the picture's and the caption's place in `PairItems`."""


@dataclass(frozen=True)
class Part:
    """Items that are scored together, in the file's order.

    ids [n], unique. pairs [n, k, 2]. images: name of each item's picture, for those who read the predictions. group:
    what a macro accuracy is over. notes [n]: more about each item, for its line of predictions.jsonl.
    """

    ids: Sequence[str]
    pairs: Pairs
    images: Sequence[str]
    group: Sequence[str] | None = None
    notes: Sequence[Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PairItems:
    """What a bench's files hold. Equal captions, and equal pictures, have one place: they score exactly alike.

    pictures: None where only captions are known (embeddings are scored).
    """

    parts: Mapping[str, Part]
    texts: Sequence[str]
    pictures: Pictures | None

    def data(self) -> OwnData:
        """As prepared data, to embed."""
        return OwnData(self.pictures, Texts(self.texts))


@dataclass
class Places:
    """Distinct values in the order in which they came."""

    place: dict[Hashable, int] = field(default_factory=dict)

    def of(self, value: Hashable) -> int:
        return self.place.setdefault(value, len(self.place))

    def values(self) -> list[Any]:
        return list(self.place)
