"""Questions about pictures whose grids are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import numpy as np
import torch

from mmkd_cli.core.contracts import SignalSpec, TrainingData

CHANNELS, CELLS, PICTURES = 6, 4, 8
ANSWERS = (["red"] * 7 + ["dark red"] * 2 + ["no"], ["2"] * 10, [], ["yes"] * 5 + ["no"] * 5, ["a cat", "cat"])


class Grids:
    """`core.contracts.Targets`: the first number of a picture's first cell is its row."""

    n_views = 0
    specs: ClassVar[dict[str, SignalSpec]] = {"grid": SignalSpec("grid", "images", (CELLS, CHANNELS))}

    def __init__(self) -> None:
        self.values = torch.randn(PICTURES, CELLS, CHANNELS, generator=torch.Generator().manual_seed(0))
        self.values[:, 0, 0] = torch.arange(PICTURES)

    def view_of(self, row: int, view: int) -> Any:
        raise AssertionError("there are no views")

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: Any = None) -> dict[str, Any]:
        return {"grid": self.values[torch.from_numpy(np.asarray(rows))]}


def asked_grids() -> TrainingData:
    """Five questions about pictures; one has no answers, the last one's picture is gone."""
    questions = datasets.Dataset.from_dict({
        "question_id": [*"vwxyz"], "question": ["what colour?", "how many?", "why?", "is it?", "what is it?"],
        "image_row": [3, 0, 1, 3, -1], "answers": ANSWERS,
    })  # fmt: skip
    images = datasets.Dataset.from_dict({"image_id": [str(n) for n in range(PICTURES)]})
    none: np.ndarray = np.array([], dtype=np.int64)
    grids = Grids()
    return TrainingData(
        "asked", 1.0, ("train", "val"), lambda split: {"images": images, "questions": questions}, lambda split: grids,
        lambda split, table: none,
    )  # fmt: skip
