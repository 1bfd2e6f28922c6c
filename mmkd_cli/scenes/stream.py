"""Random draws of the built-in world: Philox's raw words, which numpy keeps the same over its releases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SPLIT_KEYS: dict[str, int] = {"train": 0, "val": 1, "test": 2}
"""The second word of Philox's key."""

_WORDS = 64
_local = threading.local()


class Stream:
    """Endless draws that depend on (seed, split, index, purpose) alone.

    The key is (seed, split); the counter starts at block 0 of (index, purpose), so streams never overlap.
    Only `random_raw` is used: numpy promises its words, not what `Generator` makes of them.
    """

    def __init__(self, seed: int, split: str, index: int, purpose: int) -> None:
        self._counter = (index, purpose)
        self._key = (seed, SPLIT_KEYS[split])
        self._block = 0
        self._words: Iterator[int] = iter(())

    def _word(self) -> int:
        for word in self._words:
            return word
        self._words = iter(_raw_words(self._key, (self._block, *self._counter)))
        self._block += _WORDS // 4
        return next(self._words)

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return self._word() % n

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + self._word() % (high - low + 1)

    def percent(self, chance: int) -> bool:
        """True in `chance` of a hundred draws."""
        return self._word() % 100 < chance

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[self._word() % len(items)]

    def weighted(self, weights: Sequence[int]) -> int:
        """A position drawn in proportion to whole weights."""
        rest = self._word() % sum(weights)
        for position, weight in enumerate(weights):
            rest -= weight
            if rest < 0:
                return position
        raise AssertionError("the rest is smaller than the sum of the weights")


def _raw_words(key: tuple[int, int], counter: tuple[int, int, int]) -> list[int]:
    """64 raw words. One generator a thread is set anew: four times faster than building one a scene."""
    generator = getattr(_local, "generator", None)
    if generator is None:
        generator = _local.generator = np.random.Philox(key=0)
    generator.state = {
        "bit_generator": "Philox",
        "state": {
            "counter": np.array((*counter, 0), dtype=np.uint64),
            "key": np.array(key, dtype=np.uint64),
        },
        "buffer": np.zeros(4, dtype=np.uint64),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    words: list[int] = generator.random_raw(_WORDS).tolist()
    return words
