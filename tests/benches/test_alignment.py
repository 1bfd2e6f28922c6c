"""Cosines of own and other pairs, against a plain computation, at every layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkd_cli.benches.runner import score
from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.reports.blocks import Figure
from tests.benches.small_data import ChosenModel, SmallData


def test_cosines_equal_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    image, text, owner = (
        rng.standard_normal((6, 5)),
        rng.standard_normal((9, 5)),
        np.array([0, 1, 2, 3, 4, 5, 0, 0, -1]),
    )
    found = score("alignment", BenchInput(embeddings={"image": image, "text": text, "text_image": owner}))
    own, other, by_text = [], [], {}
    for t in range(9):
        for i in range(6):
            cosine = float(text[t] @ image[i] / np.linalg.norm(text[t]) / np.linalg.norm(image[i]))
            (own if owner[t] == i else other).append(cosine)
            if owner[t] == i:
                by_text[str(t)] = cosine
    assert found.metrics["positive_cosine"] == pytest.approx(np.mean(own))
    assert found.metrics["negative_cosine"] == pytest.approx(np.mean(other))
    assert found.metrics["negative_cosine_std"] == pytest.approx(np.std(other))
    assert found.metrics["cosine_gap"] == pytest.approx(np.mean(own) - np.mean(other))
    assert {item["text"]: item["cosine"]["embeddings"] for item in found.items} == pytest.approx(by_text)


def test_every_layer_is_measured_and_drawn() -> None:
    class TwoLayers(ChosenModel):
        def embed_texts(self, batch: dict[str, torch.Tensor], layer: str | None = None) -> torch.Tensor:
            return super().embed_texts(batch) * (-1 if layer == "encoder" else 1)

    data = SmallData([[f"{i}"] for i in range(4)], bad=(3,))
    found = score("alignment", BenchInput(model=TwoLayers(), data=data, split="test"))
    assert {layer: round(values["positive_cosine"], 6) for layer, values in found.by.items()} == {
        "encoder": -1.0,
        "projection": 1.0,
    }
    assert found.metrics == found.by["projection"]  # the last layer is the model's default
    assert sum(isinstance(block, Figure) for block in found.page) == 2
    assert (found.counts["items"], found.counts["skipped"]) == (3, 1)
    asked = score("alignment", BenchInput(model=TwoLayers(), data=data, split="test", layer="encoder"))
    assert asked.metrics == found.by["encoder"] and list(asked.by) == ["encoder"]
