"""Retrieval against scalar loops, hand-made ties, simulated chance; what is skipped; which input the model gets."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from mmkd_cli.benches.retrieval import CocoRetrieval
from mmkd_cli.benches.runner import default_split, open_bench, score
from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.core.errors import UserError
from mmkd_cli.reports.blocks import Query
from tests.benches.small_data import ChosenModel, ChosenTargets, SmallArtifact, SmallData

RECALLS = [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


def looped(image: np.ndarray, text: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """The rule in scalar loops: cosine, a tie is wrong, any own caption counts."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    scores = [[cosine(i, t) for t in text.astype(np.float64)] for i in image.astype(np.float64)]
    ranks: dict[str, list[int]] = {"image_to_text": [], "text_to_image": []}
    for i, row in enumerate(scores):
        best = max(s for s, o in zip(row, owner, strict=True) if o == i)
        ranks["image_to_text"].append(1 + sum(s >= best - 1e-12 for s, o in zip(row, owner, strict=True) if o != i))
    for t, o in enumerate(owner):
        ranks["text_to_image"].append(
            1 + sum(scores[i][t] >= scores[o][t] - 1e-12 for i in range(len(image)) if i != o)
        )
    found = {
        f"{way}_recall@{k}": 100 * sum(r <= k for r in rs) / len(rs) for way, rs in ranks.items() for k in (1, 5, 10)
    }
    found["mean_recall"] = sum(found.values()) / 6
    for way, rs in ranks.items():
        ordered = sorted(rs)
        found[f"{way}_median_rank"] = (ordered[(len(rs) - 1) // 2] + ordered[len(rs) // 2]) / 2
    return found


def test_random_embeddings_equal_scalar_loops() -> None:
    rng = np.random.default_rng(5)
    owner = np.concatenate([np.arange(40), rng.integers(0, 40, 100)])
    image = rng.standard_normal((40, 6)).astype(np.float32)
    text = (image[owner] + 1.5 * rng.standard_normal((140, 6))).astype(np.float32)
    found = score("retrieval", BenchInput(embeddings={"image": image, "text": text, "text_image": owner}))
    expected = looped(image, text, owner)
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert (found.counts["items"], found.counts["texts"], found.counts["skipped"]) == (40, 140, 0)
    for name in [*RECALLS, "mean_recall"]:
        low, high = found.intervals[name]
        assert low <= found.metrics[name] <= high


def test_ties_are_wrong_and_any_own_caption_counts() -> None:
    """Picture 0: its second caption wins. Picture 1: a stranger ties with its caption. 2 and 3 are twins."""
    axes = np.eye(4, dtype=np.float32)
    image = np.stack([axes[0], axes[1], axes[2], axes[2]])
    text = np.stack([axes[3], axes[0], axes[1], axes[1], axes[2]])
    owner = np.array([0, 0, 1, 2, 3])
    found = score("retrieval", BenchInput(embeddings={"image": image, "text": text, "text_image": owner}))
    items = {(item["direction"], item["query"]): item for item in found.items}
    # Picture 2's own text scores 0, as three others do, and its twin's text scores 1: four rivals.
    assert [items["image_to_text", str(i)]["rank"] for i in range(4)] == [1, 2, 5, 1]
    # Text 0 ties with all pictures; text 3 (of picture 2) loses to picture 1 and ties with 0 and 3; text 4 ties.
    assert [items["text_to_image", str(t)]["rank"] for t in range(5)] == [4, 1, 1, 4, 2]
    assert found.metrics["image_to_text_recall@1"] == 50.0
    assert found.metrics["text_to_image_recall@1"] == 40.0
    assert found.metrics["text_to_image_median_rank"] == 2.0


def test_top_five_are_the_best_with_their_scores() -> None:
    rng = np.random.default_rng(1)
    image, text = rng.standard_normal((7, 3)), rng.standard_normal((9, 3))
    owner = np.array([0, 1, 2, 3, 4, 5, 6, 0, 1])
    found = score("retrieval", BenchInput(embeddings={"image": image, "text": text, "text_image": owner}))
    cosine = (image / np.linalg.norm(image, axis=1)[:, None]) @ (text / np.linalg.norm(text, axis=1)[:, None]).T
    for item in found.items:
        row = cosine[int(item["query"])] if item["direction"] == "image_to_text" else cosine[:, int(item["query"])]
        best = np.argsort(-row)[:5]
        assert [int(one["id"]) for one in item["top"]] == best.tolist()
        np.testing.assert_allclose([one["score"] for one in item["top"]], row[best], atol=1e-12)
        first_own = next((place for place, one in enumerate(item["top"], 1) if one["own"]), None)
        if first_own is not None:
            assert item["rank"] == first_own
        else:
            assert item["rank"] > 5


def test_chance_is_what_random_orders_give() -> None:
    random.seed(0)
    owner = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 5, 5])
    embeddings = {"image": np.ones((6, 2)), "text": np.ones((12, 2)), "text_image": owner}
    chance = score("retrieval", BenchInput(embeddings=embeddings)).by["chance"]
    hits = dict.fromkeys(RECALLS, 0.0)
    rounds = 20_000
    for _ in range(rounds):
        order = random.sample(range(12), 12)
        image = random.randrange(6)
        rank = 1 + next(place for place, t in enumerate(order) if owner[t] == image)
        for k in (1, 5, 10):
            hits[f"image_to_text_recall@{k}"] += 100 * (rank <= k) / rounds
            hits[f"text_to_image_recall@{k}"] += 100 * (random.randrange(6) < k) / rounds
    for name in RECALLS:
        assert chance[name] == pytest.approx(hits[name], abs=1.5), name


def captions(n: int) -> list[list[str]]:
    """Two captions a picture: the second is nearest to the next picture."""
    return [[f"{i}", f"{(i + 1) % n} {i}"] for i in range(n)]


def test_a_model_on_data() -> None:
    data, model = SmallData(captions(8)), ChosenModel()
    found = score("flickr8k-retrieval", BenchInput(model=model, data=data, split="test", batch_size=3))
    assert found.metrics["image_to_text_recall@1"] == 100.0
    assert found.metrics["text_to_image_recall@1"] == 50.0  # every second caption finds the next picture first
    assert found.metrics["text_to_image_recall@5"] == 100.0
    assert found.metrics["text_to_image_median_rank"] == 1.5
    assert found.metrics["text_to_image_amr"] == 1.5  # the first slot's 1 and the second's 2


def test_rejected_pictures_go_with_their_texts_and_are_counted() -> None:
    whole = SmallData([[f"{i}"] for i in range(6)], orphans=["2 3"])
    holed = SmallData([[f"{i}"] for i in range(6)], orphans=["2 3"], bad=(0, 4))
    found = score("retrieval", BenchInput(model=ChosenModel(), data=holed, split="test"))
    assert found.counts["items"] == 4 and found.counts["skipped"] == 2
    assert found.counts["texts"] == 5 and found.counts["skipped_texts"] == 2
    ids = {item["query"] for item in found.items}
    assert ids == {"10", "20", "30", "50", "t1", "t2", "t3", "t5"}  # the orphan is a candidate and no query
    assert score("retrieval", BenchInput(model=ChosenModel(), data=whole, split="test")).counts["items"] == 6
    assert found.metrics["image_to_text_recall@1"] == 100.0


def test_a_cached_signal_takes_the_place_of_pictures() -> None:
    data = SmallData([[f"{i}"] for i in range(6)], bad=(1,))
    signal = torch.eye(16)[:6].bfloat16()
    targets = ChosenTargets(signal)
    model = ChosenModel(image_signal="image_cls")
    given = BenchInput(model=model, data=data, split="test", targets=lambda split: targets, batch_size=2)
    assert score("retrieval", given).metrics["mean_recall"] == 100.0
    assert targets.gathered == [0, 2, 3, 4, 5]  # never the rejected row


def test_the_layer_and_nothing_else_is_asked_for() -> None:
    model = ChosenModel()
    given = BenchInput(model=model, data=SmallData(captions(4)), split="test", layer="encoder", metrics_only=True)
    found = score("retrieval", given)
    assert set(model.asked) == {"encoder"}
    assert found.intervals == {} and found.page == [] and list(found.items) == []


def test_a_model_in_training_stays_in_training() -> None:
    class Trained(torch.nn.Module, ChosenModel):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            ChosenModel.__init__(self)
            self.frozen, self.trained = torch.nn.Dropout().eval(), torch.nn.Dropout()
            self.seen: list[bool] = []

        def embed_images(self, batch: dict[str, torch.Tensor], layer: str | None = None) -> torch.Tensor:
            self.seen.append(self.trained.training)
            return ChosenModel.embed_images(self, batch, layer)

    model = Trained()
    score("retrieval", BenchInput(model=model, data=SmallData(captions(4)), split="test", metrics_only=True))
    assert model.seen == [False] and model.training and model.trained.training and not model.frozen.training


def test_papers_are_quoted_beside_the_official_test_split_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SmallData(captions(4), artifact=SmallArtifact(source="image-text"))
    found = score("coco-retrieval", BenchInput(model=ChosenModel(), data=other, split="test"))
    assert found.quoted == [] and "not from 'coco'" in capsys.readouterr().err
    small = SmallData(captions(4), artifact=SmallArtifact(source="coco"))
    found = score("coco-retrieval", BenchInput(model=ChosenModel(), data=small, split="test"))
    assert found.quoted == [] and "5000, 25010" in capsys.readouterr().err
    monkeypatch.setattr(CocoRetrieval, "test_sizes", (found.counts["items"], found.counts["texts"]))
    assert score("coco-retrieval", BenchInput(model=ChosenModel(), data=small, split="test")).quoted
    table = small.table
    monkeypatch.setattr(small, "table", lambda name, split: table(name, "test"))
    assert score("coco-retrieval", BenchInput(model=ChosenModel(), data=small, split="val")).quoted == []
    assert not capsys.readouterr().err


def test_the_page_shows_queries_of_both_sorts_with_pictures() -> None:
    found = score(
        {"name": "retrieval", "shown": 2}, BenchInput(model=ChosenModel(), data=SmallData(captions(8)), split="test")
    )
    queries = [block for block in found.page if isinstance(block, Query)]
    from_texts = [query for query in queries if query.asked.picture is None]
    assert from_texts and all(card.picture for query in from_texts for card in query.found)
    for query in queries:
        assert len(query.found) in (5, 6) and any(card.right for card in query.found[:5]) == (len(query.found) == 5)


def test_nothing_to_score_is_the_user_s_mistake() -> None:
    with pytest.raises(UserError, match="--model and --data, or --embeddings"):
        score("retrieval", BenchInput())
    with pytest.raises(UserError, match="'retrieval'"):
        score("retrieva", BenchInput())
    with pytest.raises(UserError, match="bootstrap"):
        open_bench({"name": "retrieval", "bootstrp": 3})


def test_default_splits() -> None:
    bench = open_bench("retrieval")
    assert default_split(bench, ("train", "val", "test")) == "test"
    assert default_split(bench, ("train", "val")) == "val"
    assert default_split(bench, ("train",)) == "train"
