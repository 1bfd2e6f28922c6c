"""Batches with lists of tensors: the same by worker processes as by a thread, however many there are."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
import torch

from mmkd_cli.core.contracts import Batch, Position
from mmkd_cli.training.loader import cut, shares, to_device
from mmkd_cli.training.sampler import Streams


class Sizes:
    """Rows with a picture of a size of their own, and with two more."""

    name, weight, stream, rows = "sizes", 1.0, "", 600

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        def picture(row: int) -> torch.Tensor:
            return torch.full((3, 2 + row % 3, 4), row % 251, dtype=torch.uint8)

        return {"row": torch.from_numpy(rows), "pixels": [picture(row) for row in rows.tolist()],
                "pairs": [[picture(row), picture(row + 1)] for row in rows.tolist()],
                "text": [f"text {row}" for row in rows.tolist()]}  # fmt: skip


def batches(workers: int) -> list[Batch]:
    sampler = Streams([Sizes()], 300, 0, "concat", True)
    return [share.batch for (share,) in shares(sampler, [Sizes()], range(2), workers=workers)]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(torch.equal(one, other)) if isinstance(one, torch.Tensor) else bool(one == other)


def test_workers_give_what_a_thread_gives_with_few_files_open() -> None:
    wanted = batches(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # fewer than pictures
    try:
        found = batches(2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for one, other in zip(wanted, found, strict=True):
        assert one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def test_they_are_cut_and_moved_as_tensors_are() -> None:
    (batch, _) = batches(0)
    moved = cut(to_device(batch, torch.device("cpu")), 3, 5)
    assert len(moved["pixels"]) == 2 and same(moved["pairs"], batch["pairs"][3:5])
    assert moved["text"] == batch["text"][3:5]
