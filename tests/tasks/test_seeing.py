"""Fine-tuning to write about pictures: losses a row at a time, drawn answers, what is trained and what is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import BartForConditionalGeneration

from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.bart import Bart, BartStudentConfig, Maps
from mmkd_cli.tasks.writing import Writing
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.architectures.tiny_bart import tiny_bart
from tests.pairs_in_memory import pairs

DIM, AT = 12, Position(0, 0, 0)
ANSWERS = (["red"] * 7 + ["dark red"] * 2 + ["no"], ["2"] * 10, [], ["yes"] * 5 + ["no"] * 5, ["a cat", "cat"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bart(tmp_path_factory.mktemp("bart"), dropout=0.0)


def asked(**more: Any) -> TrainingData:
    """Pictures with captions, and five questions about them; the last one's picture is gone."""
    made = pairs(pictures=8, joint=DIM, **more)
    questions = datasets.Dataset.from_dict({
        "question_id": [*"vwxyz"], "question": ["what colour?", "how many?", "why?", "is it?", "what is it?"],
        "image_row": [3, 0, 1, 3, -1], "answers": ANSWERS,
    })  # fmt: skip
    return replace(made, tables=lambda split: {**made.tables(split), "questions": questions})


def built(folder: Path, task: str, start: Path | None = None, data: Any = None, student: Any = None,
          **keys: Any) -> Writing:  # fmt: skip
    chosen = registry.load("finetune_tasks", task)
    own = {} if start else {"weights": str(folder)}
    config = SimpleNamespace(
        task=chosen.Config(**keys), train=TrainConfig(),
        student=BartStudentConfig(**{"max_tokens": 48, **own, **(student or {})}),
    )  # fmt: skip
    return chosen.build(config, [data or asked()], start, "cpu")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of VLKD, with a temperature that was learnt."""
    torch.manual_seed(1)
    student = Bart.build(BartStudentConfig(weights=str(folder), max_tokens=48),
                         Maps(DIM, "image_embedding", log_scale=4.0, image_scale=2.5, bias=True))  # fmt: skip
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    place = tmp_path_factory.mktemp("run")
    student.save(place)
    return place


@pytest.mark.parametrize(("task", "prompt"), [("caption", "A picture of <mask>."), ("vqa-generative", "Q: {question}")])
def test_the_loss_is_that_of_a_row_at_a_time(folder: Path, run: Path, task: str, prompt: str) -> None:
    """By transformers' BART of the run's folder on single rows without padding, the memory built by hand."""
    trainable = built(folder, task, run, label_smoothing=0.0, prompt=prompt)
    feed, data = trainable.feeds[0], asked()
    rows = np.arange(3)
    batch = feed.load(rows, AT)
    table: Any = data.tables("train")["texts" if task == "caption" else "questions"]
    bart = BartForConditionalGeneration.from_pretrained(run / "model").eval()
    trainable.model.eval()
    tokenizer, image_map, slow = trainable.model.tokenizer, trainable.model.image_map, []
    targets: Any = data.targets("train")
    with torch.no_grad():
        for place, row in enumerate(feed.table_rows[rows].tolist()):
            image = targets.values["image_embedding"][table[row]["image_row"]].float()
            seen = image_map.weight @ (2.5 * image / image.norm()) + image_map.bias
            source = tokenizer(prompt.replace("{question}", table[row].get("question", ""))).input_ids
            written = batch["target_ids"][place, : int(batch["target_mask"][place].sum())]
            said = tokenizer.decode(written, skip_special_tokens=True)
            assert said == table[row]["text"] if task == "caption" else said in table[row]["answers"]
            states = bart.model.encoder(input_ids=torch.tensor([source])).last_hidden_state
            memory = torch.cat([seen[None, None], states], dim=1)
            logits = bart(encoder_outputs=(memory,), labels=written[None]).logits[0].log_softmax(-1)
            slow.append(-sum(float(logits[at, token]) for at, token in enumerate(written)))
        found = trainable.forward(batch).row_losses["cross_entropy"]
    assert found.tolist() == pytest.approx(slow, rel=1e-4)


def test_answers_are_drawn_as_often_as_they_were_given(folder: Path) -> None:
    feed = built(folder, "vqa-generative").feeds[0]
    assert feed.table_rows.tolist() == [0, 1, 3]  # one has no answers, one no picture
    seen: list[Counter[str]] = [Counter() for _ in range(3)]
    for epoch in range(400):
        for count, answer in zip(seen, feed.examples(feed.table_rows, epoch)[1], strict=True):
            count[answer] += 1
    assert seen[0]["red"] / 400 == pytest.approx(0.7, abs=0.07) and seen[0]["no"] / 400 == pytest.approx(0.1, abs=0.05)
    assert seen[1] == {"2": 400} and seen[2]["yes"] / 400 == pytest.approx(0.5, abs=0.08)
    one, other = feed.load(np.arange(3), Position(5, 9, 0)), feed.load(np.arange(3), Position(5, 2, 0))
    assert all(torch.equal(one[name], other[name]) for name in one)  # of the epoch and the row alone
    alone = feed.load(np.array([2]), Position(5, 9, 1))
    assert torch.equal(alone["target_ids"], one["target_ids"][2:])


def test_rejected_rows_are_left_out(folder: Path) -> None:
    refused = {("train", "images"): [3], ("train", "texts"): [0], ("train", "questions"): [1]}
    captions = built(folder, "caption", data=asked(rejected=refused)).feeds[0]
    assert captions.table_rows.tolist() == [i for i in range(24) if i % 8 != 3 and i]
    with pytest.raises(UserError, match="data 'pairs' has no answers in 'train'"):
        built(folder, "vqa-generative", data=asked(rejected=refused))
    with pytest.raises(UserError, match="data 'pairs' has no table 'questions' in 'train'"):
        built(folder, "vqa-generative", data=pairs(joint=DIM))


def test_the_map_of_texts_stays_and_the_rest_is_trained(folder: Path, run: Path, tmp_path: Path) -> None:
    trainable = built(folder, "caption", run, map_lr_scale=7.0)
    before = {name: value.clone() for name, value in trainable.model.state_dict().items()}
    rates = {id(p): g["lr"] for g in trainable.parameter_groups(0.1, 0.01) for p in g["params"]}
    trained = [p for p in trainable.model.parameters() if p.requires_grad]
    assert rates.keys() == {id(p) for p in trained}
    assert rates[id(trainable.model.image_map.weight)] == pytest.approx(0.7)
    keys = TrainConfig(batch_size=8, max_steps=2, peak_lr=1e-3, warmup_steps=0, validation=False)
    train(trainable, keys, tmp_path, device=torch.device("cpu"))
    same = {name for name, value in trainable.model.state_dict().items() if torch.equal(value, before[name])}
    assert {"text_map.weight", "text_map.bias", "log_scale"} <= same
    assert not {"image_map.weight", "bart.model.shared.weight"} & same
    trainable.save(tmp_path)
    loaded = Bart.load(tmp_path, {"student": {"name": "bart", "max_tokens": 48}})
    assert loaded.maps == trainable.model.maps and loaded.maps.image_scale == 2.5
    for name, value in trainable.model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_the_decoder_learns_to_look(folder: Path, tmp_path: Path) -> None:
    trainable = built(folder, "caption", label_smoothing=0.0)
    keys = TrainConfig(batch_size=24, max_steps=120, peak_lr=1e-2, warmup_steps=10, validation=False)
    train(trainable, keys, tmp_path, device=torch.device("cpu"))
    trainable.model.eval()
    batch = trainable.feeds[0].load(np.arange(24), AT)
    shuffled = {**batch, "image_embedding": batch["image_embedding"].roll(1, dims=0)}
    with torch.no_grad():
        real, other = (trainable.forward(one).row_losses["cross_entropy"].mean() for one in (batch, shuffled))
    assert real < other - 1


def test_no_dropout_means_none_of_a_run_too(tmp_path: Path) -> None:
    student = Bart.build(BartStudentConfig(weights=str(tiny_bart(tmp_path / "bart", dropout=0.3)), max_tokens=48),
                         Maps(DIM, "image_embedding"))  # fmt: skip
    (tmp_path / "run").mkdir()
    student.save(tmp_path / "run")
    for dropout, same in ((None, False), (0.0, True)):
        trainable = built(tmp_path, "caption", tmp_path / "run", student={"dropout": dropout})
        trainable.model.train()
        batch = trainable.feeds[0].load(np.arange(4), AT)
        one, other = (trainable.model.write(batch).logits for _ in range(2))
        assert torch.equal(one, other) == same


def test_a_model_of_other_signals_is_refused(folder: Path, run: Path) -> None:
    with pytest.raises(UserError, match=r"sees 'image_embedding' of width 12, the data give 'image_embedding' of 9"):
        built(folder, "caption", run, data=pairs(joint=9))
    with pytest.raises(UserError, match=r"gives no 'image_cls'"):
        built(folder, "caption", run, image_signal="image_cls")
    with pytest.raises(UserError, match=r"97 is more than the 96 positions"):
        built(folder, "caption", run, student={"max_tokens": 97})
