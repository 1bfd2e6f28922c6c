"""A small trainable for tests of the loop: two linear towers, a regression each, and InfoNCE between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkd_cli.core.contracts import Batch, Feed, Outputs, Position, Trainable
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.regression import cls_regression_per_row


@dataclass
class ArrayFeed:
    """Rows that are functions of their number. nan_row: a row whose target is NaN."""

    name: str = "arrays"
    rows: int = 64
    weight: float = 1.0
    nan_row: int = -1
    stream: str = ""

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        grid = torch.from_numpy(rows).double()[:, None] * torch.arange(1, 7)
        target = (grid * 0.37).cos().float()[:, :5]
        target[torch.from_numpy(rows == self.nan_row)] = float("nan")
        return {"image": (grid * 0.11).sin().float(), "text": (grid * 0.23).sin().float(), "target": target,
                "row": torch.from_numpy(rows), "id": [f"{self.name}-{row}" for row in rows]}  # fmt: skip


class Towers(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 5))
        self.text = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 5))
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.unused = nn.Linear(3, 3)
        self.register_buffer("average", torch.zeros(5))
        self.tied = self.text[3]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.image(batch["image"]), self.text(batch["text"])


class LinearStudent(Trainable):
    def __init__(
        self, feeds: Sequence[Feed] = (ArrayFeed(),), validation: Sequence[Feed] = (), *, contrastive: bool = True,
        dropout: float = 0.0, tokens: bool = False,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        self.model: nn.Module = Towers(dropout)
        self.feeds, self.validation = feeds, validation
        self.weights: Mapping[str, float] = {"contrastive_loss": 0.5}
        self.contrastive, self.tokens = contrastive, tokens

    def forward(self, batch: Batch) -> Outputs:
        image, text = self.model(batch)
        losses = {
            "image_loss": cls_regression_per_row(image, batch["target"]),
            "text_loss": cls_regression_per_row(text, batch["target"]),
        }
        if self.tokens:
            losses["token_loss"] = text[batch["row"] % 3 > 0].square().flatten()
        gathered = {"image": image, "text": text, "row": batch["row"]} if self.contrastive else {}
        return Outputs(losses, gathered, {"cosine": torch.cosine_similarity(image, text).detach()})

    def counts(self, batch: Batch) -> Mapping[str, int]:
        return {"token_loss": 5 * int((batch["row"] % 3 > 0).sum())} if self.tokens else {}

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        scale = self.model.log_scale.exp()
        return {"contrastive_loss": info_nce(gathered["image"], gathered["text"], scale, gathered["row"])}

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        if self.contrastive:
            self.model.average.lerp_(gathered["image"].mean(dim=0), 0.1)

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        flat = [p for p in self.model.parameters() if p.ndim < 2]
        deep = [p for p in self.model.parameters() if p.ndim >= 2]
        return [{"params": deep, "lr": peak_lr, "weight_decay": weight_decay},
                {"params": flat, "lr": peak_lr, "weight_decay": 0.0}]  # fmt: skip

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_model

        (folder / "model").mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / "model" / "model.safetensors"))
