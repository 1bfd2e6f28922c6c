"""A language model of encoder and decoder in transformers' layout, which writes a text for a text (BART, T5, ...).

B rows, L tokens of the source, T of the target, V of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from mmkd_cli.architectures.transformers_folder import (
    dropout_options,
    load_pretrained,
    open_config,
    open_tokenizer,
)
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.students.text import trimmed
from mmkd_cli.students.text_folder import named, save_model


class Written(NamedTuple):
    """Logits [B, T, V] of a text's tokens: labels and mask int64 [B, T]."""

    logits: Tensor
    labels: Tensor
    mask: Tensor


class Seq2SeqConfig(Config):
    """Keys of the student `seq2seq`."""

    name: str = key("seq2seq", "the student")
    weights: str | None = key(
        None, "folder or hub id of transformers (None: the run that training starts from)", identity=False
    )
    dropout: float | None = key(
        None, "every dropout that the model's config.json has (None: what it says)", source="[U] the model's own", ge=0,
        lt=1,
    )  # fmt: skip


class Seq2Seq(nn.Module):
    """A folder of transformers, and nothing of ours beside it."""

    Config: ClassVar[type] = Seq2SeqConfig
    image_signal: str | None = None
    layers: tuple[str, ...] = ()

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.language_model, self.tokenizer = model, tokenizer

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(cls, config: Seq2SeqConfig, folder: Path) -> Self:
        """The folder's model with its weights."""
        found = open_config(folder)
        if not found.is_encoder_decoder:
            raise UserError(f"{folder} is a {found.model_type!r}, not a model of encoder and decoder: name another")
        model = load_pretrained(AutoModelForSeq2SeqLM, folder, **dropout_options(found, config.dropout))
        return cls(model, open_tokenizer(folder))

    @classmethod
    def empty(cls, config: Seq2SeqConfig) -> Self:
        """The model on the meta device, of the folder's sizes."""
        found = open_config(hub_folder(named(config)))
        with torch.device("meta"):
            return cls(AutoModelForSeq2SeqLM.from_config(found), None)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`."""
        return cls.build(Seq2SeqConfig.model_validate(config["student"]), folder / "model").eval()

    @staticmethod
    def files(config: Seq2SeqConfig) -> dict[str, str]:
        """Key -> folder or hub id whose content decides the first weights."""
        return {"student.weights": str(hub_folder(named(config)))}

    # ------------------------------------------------------------------------------------------ running
    def write(self, batch: Batch) -> Written:
        """What the decoder says of each target's tokens, beside its source.

        batch: source_ids, source_mask int64 [B, L], target_ids, target_mask [B, T], padding behind the texts.
        """
        on_cpu = batch["source_ids"].device.type == "cpu"  # elsewhere asking for lengths would wait for the device
        source, seen = batch["source_ids"], batch["source_mask"]
        ids, mask = batch["target_ids"], batch["target_mask"]
        if on_cpu:
            (source, seen), (ids, mask) = trimmed(source, seen), trimmed(ids, mask)
        said = self.language_model(
            input_ids=source, attention_mask=seen, use_cache=False,
            decoder_input_ids=self.language_model.prepare_decoder_input_ids_from_labels(labels=ids),
        )  # fmt: skip
        return Written(said.logits, ids, mask)

    def save(self, folder: Path) -> None:
        """Write model/ as transformers reads it, with its tokenizer."""
        save_model(self.language_model, self.tokenizer, folder / "model")
