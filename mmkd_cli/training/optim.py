"""Optimisers, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from mmkd_cli.core.errors import UserError
from mmkd_cli.training.config import TrainConfig


def build_optimizer(model: nn.Module, groups: Sequence[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser over `groups` (params, lr, weight_decay). Each trainable parameter must be there exactly once."""
    named = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    seen: set[nn.Parameter] = set()
    filled = [{**group, "params": list(group["params"])} for group in groups]
    for parameter in (p for group in filled for p in group["params"]):
        if parameter not in named or parameter in seen:
            what = "twice" if parameter in seen else "though it is not a trainable parameter of the model"
            raise ValueError(f"parameter {named.get(parameter, 'without a name')} is in parameter_groups {what}")
        seen.add(parameter)
    if missing := [name for parameter, name in named.items() if parameter not in seen]:
        raise ValueError(f"{len(missing)} trainable parameters are in no group of parameter_groups, first {missing[0]}")
    if not seen:
        raise UserError("nothing is left to train: the student has no trainable parameter; set fewer freeze patterns")
    if config.optimizer == "sgd":
        return torch.optim.SGD(filled, lr=config.peak_lr, momentum=config.momentum)
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in seen)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(filled, lr=config.peak_lr, betas=config.betas, eps=config.eps, fused=fused)


def decay_groups(
    model: nn.Module, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups of these parameters: matrices with weight decay; norms, biases and tables of embeddings without."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if parameter.ndim > 1 and id(parameter) not in tables else plain).append(parameter)
    groups = ((decayed, weight_decay), (plain, 0.0))
    return [{"params": params, "lr": lr, "weight_decay": decay} for params, decay in groups if params]


class Schedule:
    """Learning rates by step: linear warm-up to each group's own rate, then cosine or linear to 0, or constant."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, total_steps: int) -> None:
        self._optimizer, self._kind, self._total = optimizer, config.schedule, total_steps
        steps = config.warmup_steps if config.warmup_steps is not None else round(config.warmup_ratio * total_steps)
        self._warmup = min(steps, total_steps)
        self._peaks = [group["lr"] for group in optimizer.param_groups]

    def factor(self, step: int) -> float:
        """Share of the peak rate at a step, counted from 0: never 0 in the first step, 0 after the last."""
        if step < self._warmup:
            return (step + 1) / self._warmup
        if self._kind == "constant":
            return 1.0
        done = (step - self._warmup) / max(self._total - self._warmup, 1)
        return 1.0 - done if self._kind == "linear" else (1.0 + math.cos(math.pi * done)) / 2

    def set(self, step: int) -> float:
        """Put the rates of a step into the optimiser; returns the first group's."""
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.factor(step)
        return float(self._optimizer.param_groups[0]["lr"])
