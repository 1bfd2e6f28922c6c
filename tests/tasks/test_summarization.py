"""Fine-tuning to write a text for a text: its loss a row at a time by transformers, its rows, what it learns."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from mmkd_cli.core.contracts import Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.seq2seq import Seq2SeqConfig
from mmkd_cli.tasks.summarization import Summarization, SummarizationConfig
from mmkd_cli.tasks.writing import Writing
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.architectures.tiny_bart import TOKENS, byte_tokenizer, tiny_bart

AT = Position(0, 0, 0)
TEXTS = ("a red dog sees a hat", "small", "the blue cat", "round and green and very large", "x y")
SUMMARIES = ("red dog", "s", "", "green", "a longer one than its text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bart(tmp_path_factory.mktemp("bart"), dropout=0.0)


def articles(rejected: Any = ()) -> TrainingData:
    table = datasets.Dataset.from_dict({"text_id": list("abcde"), "text": TEXTS, "summary": SUMMARIES,
                                        "image_row": [-1] * 5})  # fmt: skip
    return TrainingData("articles", 1.0, ("train", "val"), lambda split: {"texts": table}, lambda split: None,
                        lambda split, name: np.array(rejected, dtype=np.int64))  # fmt: skip


def built(folder: Path, data: TrainingData | None = None, **keys: Any) -> Writing:
    config = SimpleNamespace(
        task=SummarizationConfig(**keys), train=TrainConfig(), student=Seq2SeqConfig(weights=str(folder))
    )
    return Summarization.build(config, [data or articles()], None, "cpu")


def tiny_t5(folder: Path) -> Path:
    torch.manual_seed(0)
    T5ForConditionalGeneration(
        T5Config(vocab_size=len(TOKENS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
                 pad_token_id=1, eos_token_id=2, decoder_start_token_id=1)
    ).save_pretrained(folder)  # fmt: skip
    byte_tokenizer(folder)
    return folder


@pytest.mark.parametrize("kind", ["bart", "t5"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_a_text_at_a_time(folder: Path, tmp_path: Path, kind: str, smoothing: float) -> None:
    """By transformers' own model on single texts without padding; smoothed by hand, token by token."""
    place = folder if kind == "bart" else tiny_t5(tmp_path)
    trainable = built(place, label_smoothing=smoothing, template="<{text}>")
    own = (BartForConditionalGeneration if kind == "bart" else T5ForConditionalGeneration).from_pretrained(place).eval()
    trainable.model.eval()
    batch = trainable.feeds[0].load(np.arange(4), AT)
    slow, plain = [], []
    with torch.no_grad():
        for text, summary in ((t, s) for t, s in zip(TEXTS, SUMMARIES, strict=True) if s):
            ids, labels = (torch.tensor([trainable.model.tokenizer(one).input_ids]) for one in (f"<{text}>", summary))
            said = own(input_ids=ids, labels=labels).logits[0].log_softmax(-1)
            spread = sum(float(-row.mean()) for row in said)
            plain.append(sum(float(-said[place, token]) for place, token in enumerate(labels[0])))
            slow.append((1 - smoothing) * plain[-1] + smoothing * spread)
        found = trainable.forward(batch)
    assert found.row_losses["cross_entropy"].tolist() == pytest.approx(slow, rel=1e-4)
    if smoothing:
        assert found.report["nll"].tolist() == pytest.approx(plain, rel=1e-4)
    tokens = sum(len(summary) + 2 for summary in SUMMARIES if summary)
    assert trainable.counts(batch)["cross_entropy"] == tokens


def test_rows_without_a_summary_and_rejected_ones_are_left_out(folder: Path) -> None:
    assert built(folder).feeds[0].table_rows.tolist() == [0, 1, 3, 4]
    assert built(folder, articles(rejected=[0, 4])).validation[0].table_rows.tolist() == [1, 3]
    with pytest.raises(UserError, match="data 'articles' has no 'summary' in 'train'"):
        built(folder, articles(rejected=[0, 1, 3, 4]))


def test_texts_are_cut_to_what_was_asked_for(folder: Path) -> None:
    batch = built(folder, max_source_tokens=5, max_target_tokens=4).feeds[0].load(np.array([0, 1]), AT)
    assert batch["source_ids"].shape == (2, 5) and batch["target_ids"].shape == (2, 4)
    assert batch["source_ids"][0, -1] == 2 and batch["target_ids"][1].tolist()[2:] == [2, 1]


def test_every_dropout_of_a_model_can_be_set(tmp_path: Path) -> None:
    place = tiny_bart(tmp_path, dropout=0.3)
    for dropout, same in ((None, False), (0.0, True)):
        config = SimpleNamespace(task=SummarizationConfig(), train=TrainConfig(),
                                 student=Seq2SeqConfig(weights=str(place), dropout=dropout))  # fmt: skip
        trainable = Summarization.build(config, [articles()], None, "cpu")
        trainable.model.train()
        batch = trainable.feeds[0].load(np.arange(4), AT)
        one, other = (trainable.model.write(batch).logits for _ in range(2))
        assert torch.equal(one, other) == same


def test_a_batch_in_pieces_has_the_same_losses(folder: Path, tmp_path: Path) -> None:
    """Rows have summaries of several lengths: the mean is over the batch's tokens."""
    found = []
    for name, piece in (("whole", None), ("pieces", 3)):
        (tmp_path / name).mkdir()
        keys = TrainConfig(batch_size=4, micro_batch_size=piece, max_steps=4, peak_lr=1e-2, warmup_steps=0)
        train(built(folder), keys, tmp_path / name, device=torch.device("cpu"))
        found.append([json.loads(one) for one in (tmp_path / name / "metrics.jsonl").read_text().splitlines()])
    for one, other in zip(*found, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_it_learns_its_texts(folder: Path, tmp_path: Path) -> None:
    trainable = built(folder, label_smoothing=0.0)
    keys = TrainConfig(batch_size=4, max_steps=150, peak_lr=1e-2, warmup_steps=10, validation=False)
    train(trainable, keys, tmp_path, device=torch.device("cpu"))
    model = trainable.model.eval()
    ids = torch.tensor([model.tokenizer(TEXTS[0]).input_ids])
    written = model.language_model.generate(input_ids=ids, max_new_tokens=12, num_beams=1, do_sample=False)
    assert model.tokenizer.decode(written[0], skip_special_tokens=True) == SUMMARIES[0]
