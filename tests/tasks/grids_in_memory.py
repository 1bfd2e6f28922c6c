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
    """`core.contracts.Targets`: the first number of a picture's first cell is its row; its vector is another cell."""

    n_views = 0
    specs: ClassVar[dict[str, SignalSpec]] = {
        "grid": SignalSpec("grid", "images", (CELLS, CHANNELS)),
        "grid_size": SignalSpec("grid_size", "images", (2,), dtype="uint16"),
        "image_embedding": SignalSpec("image_embedding", "images", (CHANNELS,)),
    }

    def __init__(self) -> None:
        self.values = torch.randn(PICTURES, CELLS, CHANNELS, generator=torch.Generator().manual_seed(0))
        self.values[:, 0, 0] = torch.arange(PICTURES)

    def view_of(self, row: int, view: int) -> Any:
        raise AssertionError("there are no views")

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: Any = None) -> dict[str, Any]:
        cells = self.values[torch.from_numpy(np.asarray(rows))]
        said = {
            "grid": cells,
            "image_embedding": cells[:, 1],
            "grid_size": torch.tensor([[2, 2]] * len(rows)),
        }
        return {name: said[name] for name in signals}


def asked_grids(rows: int = 5) -> TrainingData:
    """Questions about pictures, five and again; one of five has no answers, one's picture is gone."""
    each = range(rows)
    asked = ["what colour?", "how many?", "why?", "is it?", "what is it?"]
    questions = datasets.Dataset.from_dict({
        "question_id": [f"{n}" for n in each], "question": [asked[n % 5] for n in each],
        "image_row": [[3, 0, 1, 5, -1 if rows == 5 else 2][n % 5] for n in each],
        "answers": [ANSWERS[n % 5] for n in each],
    })  # fmt: skip
    images = datasets.Dataset.from_dict({"image_id": [str(n) for n in range(PICTURES)]})
    none: np.ndarray = np.array([], dtype=np.int64)
    grids = Grids()
    return TrainingData(
        "asked", 1.0, ("train", "val"), lambda split: {"images": images, "questions": questions}, lambda split: grids,
        lambda split, table: none,
    )  # fmt: skip


def pairs_of_grids(rows: int = 5) -> TrainingData:
    """Statements about two pictures each: whether the first numbers of their second cells have one sign. The second
    picture of the last one is gone."""
    grids, random = Grids(), np.random.default_rng(0)
    first, second = random.integers(PICTURES, size=rows), random.integers(PICTURES, size=rows)
    sign = grids.values[:, 1, 0] > 0
    same = sign[torch.from_numpy(first)] == sign[torch.from_numpy(second)]
    questions = datasets.Dataset.from_dict({
        "question_id": [f"dev-{n}-0-0" for n in range(rows)], "question": ["they are alike."] * rows,
        "image_row": first, "second_image_row": [*second[:-1], -1],
        "answers": [["true" if one else "false"] for one in same],
    })  # fmt: skip
    images = datasets.Dataset.from_dict({"image_id": [str(n) for n in range(PICTURES)]})
    none: np.ndarray = np.array([], dtype=np.int64)
    return TrainingData(
        "pairs", 1.0, ("train",), lambda split: {"images": images, "questions": questions}, lambda split: grids,
        lambda split, table: none,
    )  # fmt: skip
