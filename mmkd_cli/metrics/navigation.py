"""How well a walk through a graph follows its instruction.

Anderson et al. 2018 (arXiv 1807.06757: NE, SR, OSR, SPL), Jain et al. 2019 (1905.12255: CLS), Ilharco et al. 2019
(1907.05446: nDTW, SDTW), as tasks/R2R/eval.py of the Matterport3D simulator and the RxR repository compute them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SUCCESS_METRES = 3.0
"""Nearer than this is a success; also the scale of nDTW and CLS."""

_LEAST_METRES = 0.01
"""In place of a length of 0, as the agents' own evaluation has it."""

METRES = ("TL", "NE")
"""Metrics that are metres; the others are shares, 0 to 1."""


def navigation_scores(
    distances: NDArray[np.float64], walked: Sequence[int], reference: Sequence[int]
) -> dict[str, float]:
    """TL and NE in metres; SR, OSR, SPL, nDTW, SDTW, CLS from 0 to 1.

    distances [n, n]: metres along the graph's edges. walked, reference: nodes, at least one each; the walk may stay at
    a node for several steps. The goal is the reference's last node.
    """
    goal = reference[-1]
    length, shortest = path_length(distances, walked), float(distances[walked[0], goal])
    error = float(distances[walked[-1], goal])
    success = float(error < SUCCESS_METRES)
    fidelity = ndtw(distances, walked, reference)
    return {
        "TL": length,
        "NE": error,
        "SR": success,
        "OSR": float(distances[list(walked), goal].min() < SUCCESS_METRES),
        "SPL": success * shortest / max(length, shortest, _LEAST_METRES),
        "nDTW": fidelity,
        "SDTW": fidelity * success,
        "CLS": cls(distances, walked, reference),
    }


def path_length(distances: NDArray[np.float64], path: Sequence[int]) -> float:
    """Metres."""
    return float(distances[list(path[:-1]), list(path[1:])].sum())


def dtw(distances: NDArray[np.float64], walked: Sequence[int], reference: Sequence[int]) -> float:
    """The least sum of distances of a walk and a reference that are aligned in order, metres."""
    row = np.full(len(reference) + 1, np.inf)
    row[0] = 0.0
    for node in walked:
        left = np.inf
        before, row = row, np.empty_like(row)
        row[0] = np.inf
        for place, cost in enumerate(distances[node, list(reference)], 1):
            left = row[place] = cost + min(before[place], before[place - 1], left)
    return float(row[-1])


def ndtw(distances: NDArray[np.float64], walked: Sequence[int], reference: Sequence[int]) -> float:
    """exp(-DTW / (3 m x nodes of the reference)); a node that is stayed at counts once."""
    steps = [node for place, node in enumerate(walked) if not place or node != walked[place - 1]]
    return float(np.exp(-dtw(distances, steps, reference) / (SUCCESS_METRES * len(reference))))


def cls(distances: NDArray[np.float64], walked: Sequence[int], reference: Sequence[int]) -> float:
    """Coverage of the reference, weighted by how near the walk's length is to what that coverage asks for."""
    nearest = distances[np.ix_(list(reference), list(walked))].min(axis=1)
    coverage = float(np.exp(-nearest / SUCCESS_METRES).mean())
    expected = coverage * path_length(distances, reference)
    off = abs(expected - path_length(distances, walked))
    return coverage * (expected / (expected + off) if expected + off else 1.0)
