"""A language model of transformers with a head that classifies texts or pairs of texts, or gives each a number.

BART's is of its paper (arXiv 1910.13461, section 3.1): encoder and decoder read the same text, the decoder's last state
is classified. B texts, L tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from mmkd_cli.architectures.transformers_folder import (
    dropout_options,
    folder_identity,
    load_pretrained,
    open_config,
    open_tokenizer,
)
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.students.text_folder import named, save_model
from mmkd_cli.students.text_halves import attach_pooler

_USUAL = 512
"""Tokens: BERT's positions."""


class ClassifierConfig(Config):
    """Keys of the student `classifier`."""

    name: str = key("classifier", "the student")
    weights: str | None = key(
        None, "folder or hub id of transformers (None: the run that training starts from)", identity=False
    )
    max_tokens: int | None = key(
        None, "length of a text, or of a pair, with its special tokens; longer ones are cut (None: what the model and "
        "its tokenizer take, at most 512)", unit="tokens", source="[U] BERT's positions", ge=4,
    )  # fmt: skip
    dropout: float | None = key(
        None, "every dropout that the model's config.json has (None: what it says)", source="[U] the model's own", ge=0,
        lt=1,
    )  # fmt: skip
    pooler: str | None = key(
        None, "folder or hub id of transformers whose pooler the model gets (None, or empty: its own, or a random one)",
        source="[C] EV-LP puts BERT's back", identity=False,
    )  # fmt: skip


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer of transformers, of texts and pairs of texts."""

    tokenizer: Any
    max_tokens: int

    def __call__(self, texts: Sequence[str], seconds: Sequence[str] | None = None) -> dict[str, Tensor]:
        """What the model reads, int64 [B, max_tokens] each: input_ids, attention_mask, token_type_ids if it has them.

        A text that spells a special token is read as letters: the end of a text is where BART is classified.
        """
        said = self.tokenizer(
            list(texts), list(seconds) if seconds is not None else None, padding="max_length", truncation=True,
            max_length=self.max_tokens, padding_side="right", return_tensors="pt", split_special_tokens=True,
        )  # fmt: skip
        return dict(said)


class Classifier(nn.Module):
    """A folder of transformers, and nothing of ours beside it: its config.json names the labels."""

    Config: ClassVar[type] = ClassifierConfig
    image_signal: str | None = None
    layers: tuple[str, ...] = ()

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        super().__init__()
        self.model, self.tokenize = model, TextTokenizer(tokenizer, max_tokens)
        self.folder: Path | None = None

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(cls, config: ClassifierConfig, folder: Path, labels: Sequence[str] | None) -> Self:
        """The folder's model with a head for these labels, None for a number; a head of other labels is made anew."""
        found = open_config(folder)
        tokenizer = open_tokenizer(folder)
        if tokenizer.pad_token_id is None:
            raise UserError(f"{folder}: the tokenizer has no padding token: add pad_token to its tokenizer_config.json")
        names = list(labels) if labels is not None else ["value"]
        same = labels is not None and [*(found.id2label or {}).values()] == names
        options = {} if same else {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
        model = load_pretrained(
            AutoModelForSequenceClassification, folder, new_head=True, **options,
            problem_type="regression" if labels is None else "single_label_classification",
            pad_token_id=tokenizer.pad_token_id, **dropout_options(found, config.dropout),
        )  # fmt: skip
        if config.pooler:
            attach_pooler(model, hub_folder(config.pooler))
        return cls(model, tokenizer, _length(config.max_tokens, found, tokenizer, folder))

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`."""
        keys = ClassifierConfig.model_validate(config["student"])
        return cls.open(folder / "model", keys.max_tokens)

    @classmethod
    def open(cls, folder: Path, max_tokens: int | None = None) -> Self:
        """A model of transformers that has its head."""
        model, tokenizer = load_pretrained(AutoModelForSequenceClassification, folder), open_tokenizer(folder)
        found = cls(model, tokenizer, _length(max_tokens, model.config, tokenizer, folder))
        found.folder = folder
        return found.eval()

    def identity(self) -> dict[str, Any]:
        """Of a folder that was opened."""
        assert self.folder is not None, "a student is identified by its run"
        return {"library": "transformers", "files": folder_identity(self.folder, None, tokenizer=True)}

    @staticmethod
    def files(config: ClassifierConfig) -> dict[str, str]:
        """Key -> folder or hub id whose content decides the first weights."""
        return {"student.weights": str(hub_folder(named(config)))}

    # ------------------------------------------------------------------------------------------ running
    @property
    def labels(self) -> list[str] | None:
        """Names of the classes; None where the outcome is a number."""
        if self.model.config.problem_type == "regression" or self.model.config.num_labels == 1:
            return None
        return [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    def classify(self, batch: Batch) -> Tensor:
        """Logits [B, C], float32, of what `tokenize` gave."""
        names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch]
        given = {name: batch[name] for name in names}
        if given["input_ids"].device.type == "cpu":  # elsewhere asking for lengths would wait for the device
            longest = int(given["attention_mask"].sum(dim=1).max())
            given = {name: value[:, :longest] for name, value in given.items()}
        logits: Tensor = self.model(**given, **self._options).logits
        return logits.float()

    @property
    def _options(self) -> dict[str, Any]:
        return {"use_cache": False} if self.model.config.is_encoder_decoder else {}

    def save(self, folder: Path) -> None:
        """Write model/ as transformers reads it, with its tokenizer."""
        save_model(self.model, self.tokenize.tokenizer, folder / "model")


def empty(config: ClassifierConfig, labels: int) -> nn.Module:
    """The model on the meta device, of the folder's sizes."""
    found = open_config(hub_folder(named(config)))
    found.num_labels = labels
    with torch.device("meta"):
        model: nn.Module = AutoModelForSequenceClassification.from_config(found)
    return model


def _length(asked: int | None, config: Any, tokenizer: Any, folder: Path) -> int:
    """Tokens of a text; UserError where the model has no so many positions."""
    positions: int = getattr(config, "max_position_embeddings", None) or asked or _USUAL
    if asked is not None and asked > positions:
        raise UserError(
            f"student.max_tokens {asked} is more than the {positions} positions of {folder}: make it smaller"
        )
    return asked or min(positions, tokenizer.model_max_length, _USUAL)
