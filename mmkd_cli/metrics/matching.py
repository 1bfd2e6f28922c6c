"""Which items of a bench of matching pictures and captions a model gets right: Winoground, ARO, SugarCrepe.

The benches treat a tie (a negative that scores as high as the positive) differently, and so does each function here.
A score that is NaN is wrong everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]


def winoground_right(scores: Scores) -> dict[str, NDArray[np.bool_]]:
    """scores [n, 2 captions, 2 pictures] -> `text`, `image`, `group` bool [n]. A tie is wrong.

    text: each picture scores higher with its own caption; image: each caption with its own picture; group: both
    (Thrush et al. 2022, Winoground, equations 1 to 3).
    """
    own_0, own_1 = scores[:, 0, 0], scores[:, 1, 1]
    caption_0_picture_1, caption_1_picture_0 = scores[:, 0, 1], scores[:, 1, 0]
    text = (own_0 > caption_1_picture_0) & (own_1 > caption_0_picture_1)
    image = (own_0 > caption_0_picture_1) & (own_1 > caption_1_picture_0)
    return {"text": text, "image": image, "group": text & image}


def first_above_rest(scores: Scores) -> NDArray[np.bool_]:
    """scores [n, k], k >= 2, the positive first -> bool [n]. A tie is wrong: SugarCrepe, ARO's VG-R and VG-A."""
    right: NDArray[np.bool_] = scores[:, 0] > scores[:, 1:].max(axis=1)
    return right


def first_not_below_rest(scores: Scores) -> NDArray[np.bool_]:
    """scores [n, k], k >= 2, the positive first -> bool [n]. A tie is right: ARO's order tasks.

    There a shuffle that changed nothing is the caption itself.
    """
    right: NDArray[np.bool_] = scores[:, 0] >= scores[:, 1:].max(axis=1)
    return right


def macro_groups(
    names: Sequence[str], *, at_least: int = 1, without: Collection[str] = ()
) -> tuple[NDArray[np.int64], list[str]]:
    """Groups of a macro accuracy: (number of each item's group or -1 [n], the groups' names in order).

    Groups of fewer than `at_least` items, and those named in `without`, do not count. ARO: VG-R leaves symmetric
    relations out, VG-A attribute pairs with fewer than 25 items.
    """
    counts = Counter(names)
    kept = sorted(name for name, items in counts.items() if items >= at_least and name not in without)
    number = {name: place for place, name in enumerate(kept)}
    return np.array([number.get(name, -1) for name in names], dtype=np.int64), kept
