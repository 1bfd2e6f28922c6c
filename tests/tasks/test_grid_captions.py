"""Captions from a grid: words, what padding and order change, what the search writes, learning, the chain."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.grid_captioner import CaptionTokenizer, GridCaptioner, GridCaptionerConfig
from mmkd_cli.tasks.grid_captions import known_words
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.contracts.tiny_teachers import timm_file
from tests.tasks.grids_in_memory import CHANNELS, Grids

SMALL = GridCaptionerConfig(width=32, layers=1, heads=2, feed=64, dropout=0.0, cells_dropout=0.0, max_words=6)
TEXTS = ["A red hat.", "a red dog runs", "two dogs", "a hat", "the dog sees a cat", "a cat", "red", "two hats"]
AT = Position(0, 0, 0)


def captioned() -> TrainingData:
    """Eight pictures, a caption each."""
    texts = datasets.Dataset.from_dict({"text_id": [*"abcdefgh"], "text": TEXTS, "image_row": list(range(8))})
    images = datasets.Dataset.from_dict({"image_id": [str(n) for n in range(8)]})
    none: np.ndarray = np.array([], dtype=np.int64)
    grids = Grids()
    return TrainingData("captioned", 1.0, ("train",), lambda split: {"images": images, "texts": texts},
                        lambda split: grids, lambda split, table: none)  # fmt: skip


def several() -> TrainingData:
    """Three pictures with one, two and three captions, in no order."""
    rows = {"text_id": [*"abcdef"], "text": TEXTS[:6], "image_row": [2, 1, 2, 0, 2, 1]}
    one, none = captioned(), np.array([], dtype=np.int64)
    tables = {"images": one.tables("train")["images"], "texts": datasets.Dataset.from_dict(rows)}
    return TrainingData("several", 1.0, ("train",), lambda split: tables, one.targets, lambda split, table: none)


def test_a_picture_gives_its_captions_in_turn() -> None:
    of = {0: {3}, 1: {1, 5}, 2: {0, 2, 4}}
    feed = built(captions=2, data=several()).feeds[0]
    numbers = {tuple(ids.tolist()): n for n, ids in enumerate(feed.tokenize(TEXTS[:6])["input_ids"])}
    seen: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    for epoch in range(12):
        batch = feed.load(np.array([2, 0, 1]), Position(epoch, 0, 0))
        assert batch["item"].tolist() == [2, 0, 1] and batch["target_ids"].shape[:2] == (3, 2)
        for picture, texts in zip((2, 0, 1), batch["target_ids"].tolist(), strict=True):
            drawn = [numbers[tuple(ids)] for ids in texts]
            assert set(drawn) <= of[picture] and (picture == 0 or drawn[0] != drawn[1])
            seen[picture] |= set(drawn)
    assert seen == of
    again = built(captions=2, data=several()).feeds[0].load(np.array([2, 0, 1]), Position(11, 5, 3))
    assert torch.equal(again["target_ids"], batch["target_ids"])


def test_captions_of_a_picture_count_as_if_each_had_it() -> None:
    made = built(captions=2, data=several())
    batch = made.feeds[0].load(np.array([1, 2]), AT)
    whole = made.forward(batch).row_losses["cross_entropy"]
    for place in range(2):
        one = {**batch, **{name: batch[name][:, place : place + 1] for name in ("target_ids", "target_mask")}}
        torch.testing.assert_close(made.forward(one).row_losses["cross_entropy"], whole[place::2])
    assert made.counts(batch)["cross_entropy"] == int(batch["target_mask"].sum())


def built(data: TrainingData | None = None, **keys: Any) -> Any:
    task = registry.load("finetune_tasks", "caption")
    config = SimpleNamespace(
        task=task.Config(**{"least": 1, "label_smoothing": 0.0, "captions": 1, **keys}),
        train=TrainConfig(),
        student=SMALL,
    )
    assert task.signals(config, {"texts"}) == ("grid",)
    return task.build(config, [data or captioned()], None, "cpu")


def small(words: int = 5) -> GridCaptioner:
    torch.manual_seed(0)
    return GridCaptioner(SMALL, [f"w{n}" for n in range(words)], CHANNELS).eval()


# ------------------------------------------------------------------------------------------------ words
def test_words_are_split_and_numbered() -> None:
    assert CaptionTokenizer.split("A man's dog, RUNNING (fast)!") == ["a", "man's", "dog", "running", "fast"]
    assert known_words(TEXTS, 3) == ["a", "red"] and len(known_words(TEXTS, 1)) == 11
    said = CaptionTokenizer(["a", "red"], 3)(["A red, red hat is here", "", "red"])
    assert said["input_ids"].tolist() == [[2, 3, 3, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
    assert said["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    with pytest.raises(UserError, match="no word of the captions is there 9 times"):
        known_words(TEXTS, 9)


# ------------------------------------------------------------------------------------------------ the network
def test_cells_are_a_set_and_padding_is_nothing() -> None:
    model, grid, mask = small(), torch.randn(1, 4, CHANNELS), torch.ones(1, 4, dtype=torch.bool)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        said = model.memory(grid, mask)
        torch.testing.assert_close(model.memory(grid[:, order], mask), said[:, order])
        longer, there = torch.cat([grid, torch.randn(1, 3, CHANNELS)], 1), torch.tensor([[True] * 4 + [False] * 3])
        torch.testing.assert_close(model.memory(longer, there)[:, :4], said)
        words = {"target_ids": torch.tensor([[[3, 4, 0]]]), "target_mask": torch.ones(1, 1, 3).long()}
        one, two = (model.write({**words, "grid": g, "grid_mask": m})[0] for g, m in ((grid, mask), (longer, there)))
    torch.testing.assert_close(one, two)


def test_greedy_captions_are_the_likeliest_words_one_by_one() -> None:
    model, grid, mask = small(), torch.randn(2, 4, CHANNELS), torch.ones(2, 4, dtype=torch.bool)
    written = model.generate_ids(grid, mask, num_beams=1, do_sample=False, max_new_tokens=5)
    for row in range(2):
        ids: list[int] = []
        for _ in range(5):
            padded = torch.tensor([[[*ids, 0]]])
            with torch.no_grad():
                batch = {"grid": grid[row : row + 1], "grid_mask": mask[row : row + 1], "target_ids": padded,
                         "target_mask": torch.ones_like(padded)}  # fmt: skip
                scores = model.write(batch)[0][0, -1]
            scores[1] = -torch.inf  # unknown words are never written
            ids.append(int(scores.argmax()))
            if not ids[-1]:
                break
        own = written[row, 1:].tolist()
        assert own[: len(ids)] == ids and not any(own[len(ids) :])
    assert model.text_of([0, 2, 3, 0, 4]) == "w0 w1"


def test_no_word_is_read_and_all_else_is_trained() -> None:
    made = built()
    frozen = {name for name, p in made.model.named_parameters() if not p.requires_grad}
    assert all("embed_positions" in name for name in frozen)
    batch = made.feeds[0].load(np.arange(8), AT)
    torch.cat([*made.forward(batch).row_losses.values()]).sum().backward()
    assert all(p.grad is not None for p in made.model.parameters() if p.requires_grad)


def test_it_learns_its_captions_and_a_saved_run_writes_them(tmp_path: Path) -> None:
    made = built()
    keys = {"max_steps": 120, "batch_size": 8, "peak_lr": 3e-3, "warmup_steps": 5, "validation": False}
    train(made, TrainConfig(**keys), tmp_path / "run", device=torch.device("cpu"))
    made.save(tmp_path / "run")
    opened = GridCaptioner.load(tmp_path / "run", {"student": SMALL.model_dump(mode="json")})
    batch = made.feeds[0].load(np.arange(8), AT)
    said = opened.caption({"grid": batch["grid"], "grid_mask": batch["grid_mask"]}, num_beams=3, max_new_tokens=8)
    assert said == [" ".join(CaptionTokenizer.split(text)) for text in TEXTS]


def test_full_size_is_counted_without_weights() -> None:
    """[T] 6+6 layers of 512 and 2,048: counted by hand from attention 4 (D^2 + D), feed-forward and norms."""
    d, f, v, c = 512, 2048, 9_489, 2048
    attention, feed, norm = 4 * (d * d + d), d * f + f + f * d + d, 2 * d
    encoder, decoder = 6 * (attention + feed + 2 * norm) + norm, 6 * (2 * attention + feed + 3 * norm) + norm
    table, out, cells, positions = v * d, v * d, c * d + d, 64 * d
    model = GridCaptioner.empty(GridCaptionerConfig(), v - 2, c)
    total = sum(p.numel() for p in model.parameters())
    assert total == encoder + decoder + table + out + cells + positions


# ------------------------------------------------------------------------------------------------ the chain
def test_the_chain_from_captions_to_a_score(mmkd: Any, tmp_path: Path) -> None:
    mmkd("prepare-data", "--source", "scenes", "--name", "world", "--set", "source.train=16", "--set", "source.val=6",
         "--set", "source.test=0")  # fmt: skip
    file = timm_file("test_resnet", tmp_path, 0)
    mmkd("cache-teacher", "--teacher", "timm", "--arch", "test_resnet", "--weights", file, "--signals", "grid",
         "--data", "world", "--name", "grids")  # fmt: skip
    sizes = [f"--set=student.{key}={value}" for key, value in
             {"width": 16, "layers": 1, "heads": 2, "feed": 16, "dropout": 0.0}.items()]  # fmt: skip
    keys = [f"--set={key}" for key in ("train.max_steps=10", "train.batch_size=16", "task.least=1")]
    mmkd("finetune", "--task", "caption", "--student", "grid-captioner", "--data", "world", "--cache", "grids",
         "--name", "captioner", *sizes, *keys)  # fmt: skip
    written = json.loads(mmkd("generate", "--task", "caption", "--model", "captioner", "--split", "val", "--beams", "2",
                              "--json").stdout)  # fmt: skip
    assert written["rows"] == 6 and set(json.loads(Path(written["predictions"]).read_text())[0]) == {
        "image_id",
        "caption",
    }
    document = json.loads(
        mmkd("evaluate", "--bench", "coco-caption", "--predictions", written["name"], "--json").stdout
    )
    assert document["counts"]["items"] == 6 and "CIDEr" in document["metrics"]
    document = json.loads(
        mmkd("finetune", "--task", "caption", "--student", "grid-captioner", "--model", "captioner", "--data", "world",
             "--cache", "grids", "--name", "rewarded", "--set=task.loss=self-critical", "--set=train.max_steps=3",
             "--set=train.batch_size=8", "--set=train.keep=max:val/cider", "--json").stdout
    )  # fmt: skip
    assert document["kept"]["val/cider"] >= 0
    mmkd("generate", "--task", "caption", "--model", "rewarded", "--split", "val")
    assert "it serves --task caption" in mmkd("generate", "--task", "vqa", "--model", "captioner", code=2).stderr
