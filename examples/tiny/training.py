"""What the tiny models' trainings share: AdamW with a one-cycle schedule, and a checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn


def optimizer_and_schedule(
    decay: Sequence[nn.Parameter], plain: Sequence[nn.Parameter], peak_lr: float, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW, no decay on the plain parameters; a tenth of the steps warms up, then a cosine to nothing."""
    groups = [{"params": list(decay), "weight_decay": weight_decay}, {"params": list(plain), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak_lr, betas=(0.9, 0.98))
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_lr, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )


class Checkpoint:
    """All states and the step, in one file that is replaced whole."""

    def __init__(self, file: Path, **parts: Any) -> None:
        self.file, self.parts = file, parts

    def save(self, step: int) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        temporary = self.file.with_suffix(".tmp")
        torch.save({"step": step, "random": torch.get_rng_state(), **states}, temporary)
        temporary.replace(self.file)

    def load(self) -> int:
        """The step to go on with: 0 where there is no file."""
        if not self.file.is_file():
            return 0
        stored = torch.load(self.file, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(stored[name])
        torch.set_rng_state(stored["random"])
        return int(stored["step"])
