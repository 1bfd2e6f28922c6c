"""What the tiny models' trainings share: pixels, AdamW in one cycle, a checkpoint to go on from, a loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene

MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def pixels(rows: Sequence[Scene]) -> Tensor:
    """Normalised pictures [B, 3, 64, 64]."""
    pictures = torch.from_numpy(np.stack([scenes.draw(row) for row in rows])).permute(0, 3, 1, 2).float() / 255
    return (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


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


def train(
    model: nn.Module, loss_of: Callable[[int], Tensor], file: Path, *, steps: int, peak_lr: float, weight_decay: float,
    checkpoints: int = 200,
) -> None:  # fmt: skip
    """Steps on the loss that `loss_of` gives for a step's number. file: of the checkpoint, each so many steps."""
    decay, plain = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    optimizer, schedule = optimizer_and_schedule(decay, plain, peak_lr, weight_decay, steps)
    checkpoint = Checkpoint(file, model=model, optimizer=optimizer, schedule=schedule)
    model.train()
    started = time.process_time()
    for step in range(checkpoint.load(), steps):
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}, loss {loss.item():.3f}, {time.process_time() - started:.0f} s of CPU", flush=True)
        if (step + 1) % checkpoints == 0 or step == steps - 1:
            checkpoint.save(step + 1)
