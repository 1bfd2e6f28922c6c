"""Training a model to write: cross-entropy of each token of a text, beside what it reads and what it sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Outputs, Trainable
from mmkd_cli.losses.infilling import written_per_row
from mmkd_cli.tasks.written_feed import WrittenFeed
from mmkd_cli.training.optim import decay_groups

RECIPE: dict[str, Any] = {
    "optimizer": "adamw", "peak_lr": 3e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "clip_norm": 0.1,
    "schedule": "linear",
}  # fmt: skip
"""[C] fairseq's examples/bart/README.summarization.md; its Adam decays in the gradient, AdamW beside it."""


class WritingConfig(Config):
    """Keys of tasks whose outcome is a text."""

    label_smoothing: float = key(
        0.1, "share of each target that is spread over all tokens", source="[C] fairseq's BART: 0.1", ge=0, lt=1
    )


class Writing(Trainable):
    """`core.contracts.Trainable` of a student that has `write`. fast: parameters with a learning rate of their own."""

    def __init__(
        self, model: Any, config: WritingConfig, feeds: Sequence[WrittenFeed], validation: Sequence[WrittenFeed],
        fast: Iterable[nn.Parameter] = (), fast_scale: float = 1.0,
    ) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self.weights: Mapping[str, float] = {"cross_entropy": 1.0}
        self._fast, self._fast_scale = list(fast), fast_scale

    def forward(self, batch: Batch) -> Outputs:
        """cross_entropy: its sum over a row's tokens. nll: the same without smoothing, said in validation."""
        said = self.model.write(batch)
        outputs = Outputs({"cross_entropy": written_per_row(*said, self.config.label_smoothing)})
        if self.config.label_smoothing and not torch.is_grad_enabled():
            outputs.report["nll"] = written_per_row(*said)
        return outputs

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """Losses count tokens."""
        return dict.fromkeys(("cross_entropy", "nll"), int(batch["target_mask"].sum()))

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices; tables, norms and biases without decay; new maps at a rate of their own."""
        fast = {id(parameter) for parameter in self._fast}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in fast]
        return [
            *decay_groups(self.model, rest, peak_lr, weight_decay),
            *decay_groups(self.model, self._fast, peak_lr * self._fast_scale, weight_decay),
        ]

    def save(self, folder: Path) -> None:
        """The student writes its own files."""
        self.model.save(folder)
