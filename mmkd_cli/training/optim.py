"""Optimisers, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from mmkd_cli.core.errors import UserError
from mmkd_cli.training.config import TrainConfig


class Group(NamedTuple):
    """Parameters of one rate, and the training table as it is for them."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float
    config: TrainConfig


def parameter_groups(model: nn.Module, groups: Sequence[Mapping[str, Any]], config: TrainConfig) -> list[Group]:
    """`Trainable.parameter_groups`, checked: each trainable parameter must be there exactly once."""
    found = [
        Group(list(group["params"]), group["lr"], group["weight_decay"],
              TrainConfig.model_validate({**config.model_dump(), **group.get("train", {})}))
        for group in groups
    ]  # fmt: skip
    named = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    seen: set[nn.Parameter] = set()
    for parameter in (p for group in found for p in group.params):
        if parameter not in named or parameter in seen:
            what = "twice" if parameter in seen else "though it is not a trainable parameter of the model"
            raise ValueError(f"parameter {named.get(parameter, 'without a name')} is in parameter_groups {what}")
        seen.add(parameter)
    if missing := [name for parameter, name in named.items() if parameter not in seen]:
        raise ValueError(f"{len(missing)} trainable parameters are in no group of parameter_groups, first {missing[0]}")
    if not seen:
        raise UserError("nothing is left to train: the student has no trainable parameter; set fewer freeze patterns")
    return found


class Optimizer:
    """An optimiser of torch for the groups of each kind, together as one. Its parameters are numbered over all."""

    def __init__(self, groups: Sequence[Group]) -> None:
        kinds: dict[str, list[Group]] = {}
        for group in groups:
            kinds.setdefault(group.config.optimizer, []).append(group)
        self._parts = [_torch_optimizer(kind, those) for kind, those in kinds.items()]
        self.groups = [group for those in kinds.values() for group in those]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """torch's, which are others after `load_state`."""
        return [group for part in self._parts for group in part.param_groups]

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[int, dict[str, Any]]:
        """Number of a parameter -> what is kept of it."""
        found: dict[int, dict[str, Any]] = {}
        for first, part in self._numbered():
            found.update({first + index: state for index, state in part.state_dict()["state"].items()})
        return found

    def load_state(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        for first, part in self._numbered():
            count = sum(len(group["params"]) for group in part.param_groups)
            own = {index - first: kept for index, kept in state.items() if first <= index < first + count}
            part.load_state_dict({**part.state_dict(), "state": own})

    def _numbered(self) -> Iterator[tuple[int, torch.optim.Optimizer]]:
        first = 0
        for part in self._parts:
            yield first, part
            first += sum(len(group["params"]) for group in part.param_groups)


def _torch_optimizer(kind: str, groups: Sequence[Group]) -> torch.optim.Optimizer:
    def filled(*names: str) -> list[dict[str, Any]]:
        return [{"params": group.params, "lr": group.lr, "weight_decay": group.weight_decay,
                 **{name: getattr(group.config, name) for name in names}} for group in groups]  # fmt: skip

    if kind == "sgd":
        return torch.optim.SGD(filled("momentum"))
    if kind == "rmsprop":
        return torch.optim.RMSprop(filled("eps", "momentum"))
    if kind == "adamax":
        return torch.optim.Adamax(filled("betas", "eps"))
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for group in groups for p in group.params)
    return (torch.optim.AdamW if kind == "adamw" else torch.optim.Adam)(filled("betas", "eps"), fused=fused)


def decay_groups(
    model: nn.Module, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float,
    spared: Mapping[str, Sequence[nn.Parameter]] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Groups of these parameters: matrices with weight decay; norms, biases, tables of embeddings and what a student's
    `parts_without_decay` names (spared) without."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    tables |= {id(one) for part in (spared or {}).values() for one in part}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if parameter.ndim > 1 and id(parameter) not in tables else plain).append(parameter)
    groups = ((decayed, weight_decay), (plain, 0.0))
    return [{"params": params, "lr": lr, "weight_decay": decay} for params, decay in groups if params]


class Schedule:
    """Learning rates by step: linear warm-up to each group's own rate, then as its training table says."""

    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        self._optimizer, self._total = optimizer, total_steps

    def factor(self, step: int, config: TrainConfig) -> float:
        """Share of the peak rate at a step, counted from 0: never 0 in the first step, 0 after the last."""
        total = self._total
        steps = config.warmup_steps if config.warmup_steps is not None else round(config.warmup_ratio * total)
        warmup = min(steps, total)
        if step < warmup:
            return config.warmup_from + (1 - config.warmup_from) * (step + 1) / warmup
        if config.schedule == "constant":
            return 1.0
        if config.schedule == "steps":
            return float(config.drop_factor ** sum(step >= round(drop * total) for drop in config.drops))
        if config.schedule == "inverse-sqrt":
            return math.sqrt(max(warmup, 1) / (step + 1))
        done = (step - warmup) / max(total - warmup, 1)
        return 1.0 - done if config.schedule == "linear" else (1.0 + math.cos(math.pi * done)) / 2

    def set(self, step: int) -> float:
        """Put the rates of a step into the optimiser; returns the first group's."""
        for group, own in zip(self._optimizer.param_groups, self._optimizer.groups, strict=True):
            group["lr"] = own.lr * self.factor(step, own.config)
        return float(self._optimizer.param_groups[0]["lr"])
