"""Batches in order, made ahead of the loop by a thread, or by worker processes."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mmkd_cli.core.contracts import Batch, Feed
from mmkd_cli.core.errors import MmkdError, UserError
from mmkd_cli.training.sampler import Batches, GlobalBatch, slice_of

_AHEAD = 3
"""Batches that wait for the loop."""


class Share(NamedTuple):
    """This process's part of a batch: the whole batch's description, the place of its first row, and its tensors."""

    whole: GlobalBatch
    first: int
    batch: Batch


Shares = tuple[Share, ...]
"""A step: a share of each stream's batch."""


class _Shares(Dataset["Shares | MmkdError"]):
    """Step -> its shares. Picklable, so that worker processes can make them.

    An error with a message for the user is handed over as it is: raised in a worker it would come with a traceback.
    """

    def __init__(self, sampler: Batches, feeds: Sequence[Feed], rank: int, processes: int) -> None:
        self.sampler, self.feeds, self.rank, self.processes = sampler, feeds, rank, processes

    def __getitem__(self, step: int) -> Shares | MmkdError:
        try:
            made = tuple(self._share(whole) for whole in self.sampler.batches(step))
            return made if get_worker_info() is None else _changed(made, _packed)
        except MmkdError as error:
            return error

    def _share(self, whole: GlobalBatch) -> Share:
        first, last = slice_of(whole.size, self.rank, self.processes)
        if first == last:
            raise UserError(
                f"the batch of step {whole.step} has {whole.size} rows for {self.processes} processes: "
                "set train.drop_last=true, or start fewer processes"
            )
        return Share(whole, first, load(whole.share(first, last), self.feeds))


def load(rows: GlobalBatch, feeds: Sequence[Feed]) -> Batch:
    """The tensors of a batch; those of several feeds are joined."""
    parts = [feeds[part.feed].load(part.rows, rows.position(part)) for part in rows.parts]
    if len(parts) == 1:
        return parts[0]
    names = parts[0].keys()
    for part, loaded in zip(rows.parts, parts, strict=True):
        if loaded.keys() != names:
            odd = ", ".join(sorted(loaded.keys() ^ names))
            raise UserError(f"data {feeds[part.feed].name!r} differs from the others in {odd}: set mix=round_robin")
    return {name: _join(name, [part[name] for part in parts]) for name in names}


def _join(name: str, values: list[Tensor] | list[list[str]]) -> Tensor | list[str]:
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    shapes = {tuple(value.shape[1:]) for value in values}
    if len(shapes) > 1:
        raise UserError(f"{name!r} has the shapes {sorted(shapes)} in several data sets: set mix=round_robin")
    return torch.cat(values)


def shares(
    sampler: Batches, feeds: Sequence[Feed], steps: range, *, workers: int, rank: int = 0, processes: int = 1,
    pin: bool = False,
) -> Generator[Shares, None, None]:  # fmt: skip
    """The shares of these steps, in order. workers=0: a thread of this process."""
    made = _Shares(sampler, feeds, rank, processes)
    if workers:
        for made_there in DataLoader(made, sampler=steps, batch_size=None, num_workers=workers, pin_memory=pin):
            if isinstance(made_there, MmkdError):
                raise made_there
            yield _changed(made_there, _unpacked)
        return
    yield from _by_thread(made, steps, pin)


def _by_thread(made: _Shares, steps: range, pin: bool) -> Generator[Shares, None, None]:
    ready: queue.Queue[Shares | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: Shares | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in steps:
                if stopped.is_set():
                    return
                found = made[step]
                if pin and isinstance(found, tuple):
                    found = tuple(share._replace(batch=pinned(share.batch)) for share in found)
                put(found)
            put(None)
        except BaseException as error:
            put(error)  # raised again by the loop

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _changed(step: Shares, change: Callable[[Any], Any]) -> Shares:
    return tuple(share._replace(batch={name: change(value) for name, value in share.batch.items()}) for share in step)


def pinned(batch: Batch) -> Batch:
    """The batch with its tensors in page-locked memory, from where copies to a GPU run beside its work."""
    return {name: _each(value, Tensor.pin_memory) for name, value in batch.items()}


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device; copies from pinned memory are not waited for."""
    return {name: _each(value, lambda one: one.to(device, non_blocking=True)) for name, value in batch.items()}


class _Packed(NamedTuple):
    """Lists of tensors as one: sent by itself each would take a file descriptor of the worker and of the loop.

    shapes: as the lists lie, each tensor's as text (torch's loader makes lists of tuples).
    """

    flat: Tensor
    shapes: Any


def _packed(value: Any) -> Any:
    leaves: list[Tensor] = []

    def shapes(inner: Any) -> Any:
        if isinstance(inner, list):
            return [shapes(one) for one in inner]
        leaves.append(inner.flatten())
        return "x".join(map(str, inner.shape))

    inner = value
    while isinstance(inner, list) and inner:
        inner = inner[0]
    if not isinstance(value, list) or not isinstance(inner, Tensor):
        return value
    said = shapes(value)
    return _Packed(torch.cat(leaves), said)


def _unpacked(value: Any) -> Any:
    if not isinstance(value, _Packed):
        return value
    first = 0

    def tensors(shapes: Any) -> Any:
        nonlocal first
        if isinstance(shapes, list):
            return [tensors(one) for one in shapes]
        shape = [int(one) for one in shapes.split("x")]
        begin, first = first, first + math.prod(shape)
        return value.flat[begin:first].view(shape)

    return tensors(value.shapes)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor changed, or each of a list of tensors (pictures of several sizes); what else there is stays."""
    if isinstance(value, list):
        return [_each(one, change) for one in value]
    return change(value) if isinstance(value, Tensor) else value


def rows_in(batch: Batch) -> int:
    """Rows of a batch: the length of what it holds."""
    return len(next(iter(batch.values())))


def cut(batch: Batch, first: int, last: int) -> Batch:
    """Rows [first, last) of a batch."""
    return {name: value[first:last] for name, value in batch.items()}
