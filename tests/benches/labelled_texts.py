"""Prepared texts with labels in memory, and a model that says what it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from tests.benches.small_data import SmallArtifact


@dataclass
class LabelledTexts:
    """texts[i] is text i. label: of each; names: of a ClassLabel, None of numbers."""

    label: Sequence[float]
    names: Sequence[str] | None
    second: bool = False
    bad: tuple[int, ...] = ()
    artifact: Any = field(default_factory=SmallArtifact)

    def table(self, name: str, split: str) -> datasets.Dataset:
        assert name == "texts"
        n = len(self.label)
        kind = datasets.Value("float32") if self.names is None else datasets.ClassLabel(names=list(self.names))
        seconds = [f"more {i}" if self.second else "" for i in range(n)]
        columns = {"text_id": [f"{i}" for i in range(n)], "text": [f"text {i}" for i in range(n)],
                   "text_b": seconds, "label": list(self.label)}  # fmt: skip
        features = dict.fromkeys(columns, datasets.Value("string")) | {"label": kind}
        return datasets.Dataset.from_dict(columns, features=datasets.Features(features))

    def rejected(self, split: str, table: str) -> np.ndarray:
        return np.array(self.bad, dtype=np.int64)


@dataclass
class Told:
    """says[i]: the class, or the number, of text i. seen: sizes of the batches that it was asked."""

    labels: list[str] | None
    says: Sequence[float]
    seen: list[int] = field(default_factory=list)

    def tokenize(self, texts: Sequence[str], seconds: Sequence[str] | None = None) -> dict[str, Tensor]:
        rows = [int(text.removeprefix("text ")) for text in texts]
        if seconds is not None:
            assert [*seconds] == [f"more {row}" for row in rows]
        return {"input_ids": torch.tensor(rows)[:, None]}

    def classify(self, batch: dict[str, Tensor]) -> Tensor:
        self.seen.append(len(batch["input_ids"]))
        said = torch.tensor([float(self.says[row]) for row in batch["input_ids"][:, 0].tolist()])
        if self.labels is None:
            return said[:, None]
        return torch.nn.functional.one_hot(said.long(), len(self.labels)).float()
