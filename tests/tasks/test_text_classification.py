"""Fine-tuning to classify: losses by transformers a text at a time, heads, labels by name, pairs, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BartForConditionalGeneration,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
)

from mmkd_cli.core.contracts import Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.labels import read_labels
from mmkd_cli.students.classifier import Classifier, ClassifierConfig
from mmkd_cli.tasks.text_classification import TextClassification, TextClassificationConfig
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.architectures.tiny_bart import TOKENS, byte_tokenizer, tiny_bart

AT = Position(0, 0, 0)
TEXTS = ("a red dog", "no", "</s> is written", "green and large", "what?")
SECONDS = ("a dog", "yes yes", "it is", "small", "so")
NAMES = ["entailment", "neutral", "contradiction"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bart(tmp_path_factory.mktemp("bart"), dropout=0.0)


def tiny_bert(folder: Path) -> Path:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=len(TOKENS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                               intermediate_size=32, max_position_embeddings=64, pad_token_id=1,
                               hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                               )).save_pretrained(folder)  # fmt: skip
    byte_tokenizer(folder)
    return folder


def labelled(label: Any = (2, 0, -1, 1, 0), feature: Any = None, pairs: bool = True, name: str = "texts",
             rejected: Any = ()) -> TrainingData:  # fmt: skip
    columns: dict[str, Any] = {"text_id": list("abcde"), "text": TEXTS, "label": label}
    features = {"text_id": datasets.Value("string"), "text": datasets.Value("string"),
                "label": feature or datasets.ClassLabel(names=NAMES)}  # fmt: skip
    if pairs:
        columns["text_b"], features["text_b"] = SECONDS, datasets.Value("string")
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return TrainingData(name, 1.0, ("train", "val"), lambda split: {"texts": table}, lambda split: None,
                        lambda split, table: np.array(rejected, dtype=np.int64))  # fmt: skip


def built(folder: Path, *data: TrainingData, max_tokens: int = 40, start: Path | None = None) -> TextClassification:
    weights = {} if start else {"weights": str(folder)}
    config = SimpleNamespace(task=TextClassificationConfig(), train=TrainConfig(),
                             student=ClassifierConfig(max_tokens=max_tokens, **weights))  # fmt: skip
    return TextClassification.build(config, data or [labelled()], start, "cpu")


@pytest.mark.parametrize("kind", ["bart", "bert"])
@pytest.mark.parametrize("pairs", [True, False])
def test_the_loss_is_that_of_a_text_at_a_time(folder: Path, tmp_path: Path, kind: str, pairs: bool) -> None:
    """By transformers' own class on single texts without padding, its head the run's."""
    trainable = built(folder if kind == "bart" else tiny_bert(tmp_path / "bert"), labelled(pairs=pairs))
    (tmp_path / "run").mkdir()
    trainable.save(tmp_path / "run")
    own = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/model").eval()
    assert own.config.id2label == dict(enumerate(NAMES)) and own.config.label2id["contradiction"] == 2
    trainable.model.eval()
    batch = trainable.feeds[0].load(np.arange(4), AT)
    tokenizer, slow, right = trainable.model.tokenize.tokenizer, [], []
    with torch.no_grad():
        for row, label in ((0, 2), (1, 0), (3, 1), (4, 0)):  # the third has none
            given = (TEXTS[row], SECONDS[row]) if pairs else (TEXTS[row],)
            logits = own(**tokenizer(*given, return_tensors="pt")).logits[0].log_softmax(-1)
            slow.append(-float(logits[label]))
            right.append(float(int(logits.argmax()) == label))
        found = trainable.forward(batch)
    assert found.row_losses["cross_entropy"].tolist() == pytest.approx(slow, rel=1e-4)
    assert found.report["accuracy"].tolist() == right and trainable.content == {"labels": NAMES}


def test_bart_is_classified_by_the_decoders_last_state(folder: Path) -> None:
    """As its paper has it: both halves read the text; the base is the folder's own, the head is new."""
    trainable = built(folder, labelled(pairs=False))
    model = trainable.model.eval().model
    assert isinstance(model, BartForSequenceClassification)
    base = BartForConditionalGeneration.from_pretrained(folder).eval().model
    assert all(torch.equal(value, base.state_dict()[name]) for name, value in model.model.state_dict().items())
    ids = torch.tensor([trainable.model.tokenize.tokenizer("a red dog").input_ids])
    with torch.no_grad():
        shifted = torch.cat([torch.tensor([[2]]), ids[:, :-1]], dim=1)
        last = base(input_ids=ids, decoder_input_ids=shifted).last_hidden_state[:, -1]
        head = model.classification_head
        slow = head.out_proj(torch.tanh(head.dense(last)))
        torch.testing.assert_close(
            trainable.model.classify(trainable.model.tokenize(["a red dog"])), slow, rtol=1e-4, atol=1e-5
        )


def test_a_text_that_spells_a_special_token_is_letters(folder: Path) -> None:
    said = built(folder, labelled(pairs=False)).model.tokenize(["</s> is written"])
    assert (said["input_ids"] == 2).sum() == 1 and said["attention_mask"].sum() == len("</s> is written") + 2


def test_numbers_are_met_by_their_squares(folder: Path, tmp_path: Path) -> None:
    trainable = built(folder, labelled([0.5, 5.0, float("nan"), 2.0, 0.0], datasets.Value("float32")))
    assert trainable.weights == {"squared_error": 1.0} and trainable.content == {"labels": None}
    assert trainable.feeds[0].table_rows.tolist() == [0, 1, 3, 4]
    trainable.model.eval()
    batch = trainable.feeds[0].load(np.arange(4), AT)
    with torch.no_grad():
        said = trainable.model.classify(batch)[:, 0]
        found = trainable.forward(batch)
    slow = [(float(a) - b) ** 2 for a, b in zip(said, (0.5, 5.0, 2.0, 0.0), strict=True)]
    assert found.row_losses["squared_error"].tolist() == pytest.approx(slow, rel=1e-5) and not found.report
    trainable.save(tmp_path)
    assert Classifier.load(tmp_path, {"student": {"name": "classifier", "max_tokens": 40}}).labels is None


@pytest.mark.parametrize(
    ("label", "feature", "names", "values"),
    [
        ((2, 0, -1, 1, 0), None, NAMES, [2, 0, None, 1, 0]),
        (("pos", "neg", None, "", "pos"), datasets.Value("string"), ["neg", "pos"], [1, 0, None, None, 1]),
        ((10, 2, 2, 10, None), datasets.Value("int32"), ["2", "10"], [1, 0, 0, 1, None]),
        ((0.5, 1.0, None, 0.0, 5.0), datasets.Value("float64"), None, [0.5, 1.0, None, 0.0, 5.0]),
    ],
)
def test_labels_of_every_kind(label: Any, feature: Any, names: Any, values: Any) -> None:
    found = read_labels(labelled(label, feature).tables("train")["texts"], "here")
    assert found.names == names
    assert [None if np.isnan(one) else float(one) for one in found.values] == values


def test_a_head_of_the_same_labels_stays_and_another_is_made_anew(folder: Path, tmp_path: Path) -> None:
    trainable = built(folder)
    trainable.save(tmp_path)
    head = trainable.model.model.classification_head.out_proj.weight
    again = built(tmp_path, start=tmp_path)
    assert torch.equal(again.model.model.classification_head.out_proj.weight, head)
    two = datasets.ClassLabel(names=["no", "yes"])
    other = built(tmp_path, labelled((0, 1, 1, 0, 0), two), start=tmp_path)
    assert other.model.model.classification_head.out_proj.weight.shape == (2, 16) and other.model.labels == two.names
    assert torch.equal(other.model.model.model.shared.weight, trainable.model.model.model.shared.weight)


def test_mistakes_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data 'b' has other labels \(no, yes\) than 'a' \(entailment, neutral"):
        built(folder, labelled(name="a"), labelled((0, 1, 1, 0, 0), datasets.ClassLabel(names=["no", "yes"]), name="b"))
    with pytest.raises(UserError, match="data 'texts' has no labels in 'train'"):
        built(folder, labelled(rejected=[0, 1, 3, 4]))
    with pytest.raises(UserError, match="97 is more than the 96 positions"):
        built(folder, max_tokens=97)
    table = labelled(("a", "b", "a", "c", ""), datasets.Value("string")).tables("train")["texts"]
    with pytest.raises(UserError, match=r"here: label 'c' is not among those of the training rows \(a, b\)"):
        read_labels(table, "here", ["a", "b"])
    with pytest.raises(UserError, match="here: column 'label' holds"):
        read_labels(labelled([[1]] * 5, datasets.Sequence(datasets.Value("int32"))).tables("train")["texts"], "here")


def test_it_learns_its_labels(folder: Path, tmp_path: Path) -> None:
    trainable = built(folder)
    keys = TrainConfig(batch_size=4, max_steps=60, peak_lr=1e-2, warmup_steps=5)
    train(trainable, keys, tmp_path, device=torch.device("cpu"))
    lines = [json.loads(one) for one in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["val/accuracy"] == 1.0 and lines[-1]["val/cross_entropy"] < 0.1
