"""What processes exchange: sums of gradients, and gathered embeddings.

Gradients are summed by a plain all-reduce after the backward pass, not by DistributedDataParallel: a step may run the
model several times (embeddings first, then gradients), call parts of it, or leave parameters unused, and each of
these needs another switch there. Losses are already divided by the global count, so the sum is the gradient itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mmkd_cli.training.sampler import slice_of

_BUCKET_ELEMENTS = 1 << 25


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace each .grad by its sum over processes. A parameter that no process used keeps None."""
    if processes() == 1:
        return
    device = parameters[0].device
    used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=device)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    for parameter, anywhere in zip(parameters, used.tolist(), strict=True):
        if anywhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    for dtype in sorted({g.dtype for g in gradients}, key=str):
        bucket: list[Tensor] = []
        for gradient in (g for g in gradients if g.dtype == dtype):
            bucket.append(gradient)
            if sum(g.numel() for g in bucket) >= _BUCKET_ELEMENTS:
                _sum_together(bucket)
                bucket = []
        if bucket:
            _sum_together(bucket)


def _sum_together(tensors: Sequence[Tensor]) -> None:
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, summed in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(summed.view_as(tensor))


def sum_of(values: Tensor) -> Tensor:
    """The sum over processes, in place."""
    if processes() > 1:
        dist.all_reduce(values)
    return values


def gather(local: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Name -> rows of the global batch [size, ...], from each process's share; detached."""
    count = processes()
    if count == 1:
        return {name: value.detach() for name, value in local.items()}
    bounds = [slice_of(size, r, count) for r in range(count)]
    longest = max(last - first for first, last in bounds)
    whole = {}
    for name in sorted(local):
        mine = local[name].detach()
        padded = mine.new_zeros((longest, *mine.shape[1:]))
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(count)]
        dist.all_gather(parts, padded)
        whole[name] = torch.cat([part[: last - first] for part, (first, last) in zip(parts, bounds, strict=True)])
    return {name: whole[name] for name in local}


def from_main(value: Any) -> Any:
    """The main process's value, on every process."""
    if processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any process."""
    if processes() == 1:
        return flag
    return bool(sum_of(torch.tensor([float(flag)], device=device)).item())


def wait() -> None:
    """Until every process is here."""
    if processes() > 1:
        dist.barrier()


@contextmanager
def main_works() -> Iterator[bool]:
    """A block in which only the main process works (it is told True), for as long as it takes; the others wait.

    An ordinary barrier gives up after the process group's timeout, half an hour by default.
    """
    if processes() == 1:
        yield True
        return
    waiting = _patient_group(dist.group.WORLD)  # made before the work begins: that takes all processes, too
    yield rank() == 0
    dist.barrier(group=waiting)


def leave() -> None:
    """Part from the other processes: ends the threads of communication, which must not outlive the interpreter."""
    _patient_group.cache_clear()  # a group that is still referred to keeps its threads
    if dist.is_initialized():
        dist.destroy_process_group()


@cache
def _patient_group(world: Any) -> Any:
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))
