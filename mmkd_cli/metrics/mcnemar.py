"""McNemar's test of two models on the same items (Psychometrika 12, 1947), in its exact form."""

from __future__ import annotations


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided p of `gained` and `lost` items that one model gets right and the other does not: a fair coin each.

    The sum of the binomial's smaller tail, twice, at most 1; whole numbers all the way, so that no tail underflows.
    """
    n, fewer = gained + lost, min(gained, lost)
    term = tail = 1  # of k = 0
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    p: float = 2 * tail / 2**n
    return min(1.0, p)
