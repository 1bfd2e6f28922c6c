"""Random draws of the built-in world: Philox's raw words, which numpy keeps the same over its releases."""

from __future__ import annotations

import threading
from collections.abc import Sequence
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
        self._words: list[int] = []

    def _refilled(self) -> list[int]:
        """The words still to be drawn, the next one last, once none is left of the ones before."""
        self._words.extend(reversed(_raw_words(self._key, (self._block, *self._counter))))
        self._block += _WORDS // 4
        return self._words

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return (self._words or self._refilled()).pop() % n

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + (self._words or self._refilled()).pop() % (high - low + 1)

    def percent(self, chance: int) -> bool:
        """True in `chance` of a hundred draws."""
        return (self._words or self._refilled()).pop() % 100 < chance

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[(self._words or self._refilled()).pop() % len(items)]


def _raw_words(key: tuple[int, int], counter: tuple[int, int, int]) -> list[int]:
    """64 raw words. One generator a thread is set anew: four times faster than building one a scene."""
    generator = getattr(_local, "generator", None)
    if generator is None:
        generator = _local.generator = np.random.Philox(key=0)
    generator.state = {
        "bit_generator": "Philox",
        "state": {"counter": np.array((*counter, 0), dtype=np.uint64), "key": np.array(key, dtype=np.uint64)},
        "buffer": _EMPTY,
        "buffer_pos": len(_EMPTY),
        "has_uint32": 0,
        "uinteger": 0,
    }
    words: list[int] = generator.random_raw(_WORDS).tolist()
    return words


_EMPTY = np.zeros(4, dtype=np.uint64)
