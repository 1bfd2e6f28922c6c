"""Everything random is keyed by what it is for, never by what ran before.

The loop seeds the generators anew for each share of each step, so that a resumed run, a second forward pass of the
same rows, and a batch cut otherwise all draw what they should, and no generator's state has to be stored.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def key_of(*parts: str | int) -> int:
    """128 bits from names and numbers, the same on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest(), "little")


def seed_all(*parts: str | int) -> None:
    """Seed Python's, NumPy's and torch's generators (those of all devices) from `parts`."""
    key = key_of(*parts)
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch.manual_seed(key & 0x7FFFFFFFFFFFFFFF)


def generator(*parts: str | int) -> np.random.Generator:
    """Philox, keyed by `parts`: of its draws nothing depends on what was drawn before."""
    return np.random.Generator(np.random.Philox(key=key_of(*parts)))


def permutation(n: int, *parts: str | int) -> np.ndarray:
    """int64 [n], a permutation of range(n) by Philox."""
    return generator(*parts).permutation(n)
