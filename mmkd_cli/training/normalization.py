"""The running means and variances of batch normalisation, which every training forward pass moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmkd_cli.training import distribution


class RunningStatistics:
    """Those of a model's batch norms, as they are now: `restore` undoes what passes since have done to them."""

    def __init__(self, model: nn.Module) -> None:
        self._kept = [(buffer, buffer.clone()) for buffer in _buffers(model)]

    def restore(self) -> None:
        for buffer, before in self._kept:
            buffer.copy_(before)


def average_running_statistics(model: nn.Module) -> None:
    """The mean over processes, each of which saw its own share of the batches, in their place."""
    if distribution.processes() == 1:
        return
    for buffer in _buffers(model):
        if buffer.is_floating_point():
            buffer.copy_(distribution.sum_of(buffer.clone()) / distribution.processes())


def _buffers(model: nn.Module) -> list[Tensor]:
    found = []
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            found += [buffer for buffer in module.buffers(recurse=False) if isinstance(buffer, torch.Tensor)]
    return found
