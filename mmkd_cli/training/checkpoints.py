"""Checkpoints: `step-N.safetensors` (model, optimiser) and, written last, its record `step-N.json`. No pickles.

The weights of the best validation so far are `best-N.safetensors` and `best-N.json`, where a run keeps them.

The learning rate, the sampler's position and everything random are functions of the step and the seed, so the step
restores them. metrics.jsonl is cut to the length that it had.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_cli.core import console, paths
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.fingerprints import xxh3_file
from mmkd_cli.training.optim import Optimizer


@dataclass(frozen=True)
class Record:
    """What a checkpoint's record says. step: optimiser steps done. metrics_bytes: length of metrics.jsonl then."""

    step: int
    metrics_bytes: int
    skipped: int
    processes: int
    bytes: int = 0
    xxh3_128: str = ""


def save(folder: Path, model: nn.Module, optimizer: Optimizer, record: Record, kept: int) -> None:
    """Write a checkpoint, then remove all but the newest `kept`."""
    tensors = {f"model.{name}": _storable(value) for name, value in _state(model)}
    for index, state in optimizer.state().items():
        tensors.update({f"optimizer.{index}.{k}": _storable(v) for k, v in state.items() if isinstance(v, Tensor)})
    target = folder / f"step-{record.step:08d}.safetensors"
    with paths.atomic_path(target) as temporary:
        save_file(tensors, temporary)
    complete = {**asdict(record), "bytes": target.stat().st_size, "xxh3_128": xxh3_file(target)}
    paths.write_json(target.with_suffix(".json"), complete)
    for old in sorted(folder.glob("step-*.json"))[:-kept]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def restore(folder: Path, model: nn.Module, optimizer: Optimizer) -> Record | None:
    """Load the newest whole checkpoint; None if there is none. A damaged one is named and passed over."""
    for path in sorted(folder.glob("step-*.json"), reverse=True):
        record, file = Record(**paths.read_json(path)), path.with_suffix(".safetensors")
        if not file.is_file() or file.stat().st_size != record.bytes or xxh3_file(file) != record.xxh3_128:
            console.warn(f"checkpoint {file} is damaged: going on from the one before it")
            continue
        tensors = load_file(file)
        _load_model(model, tensors, file)
        _load_optimizer(optimizer, tensors)
        return record
    return None


@dataclass(frozen=True)
class Best:
    """The validation whose weights a run keeps. step: optimiser steps done. value: of the number that decides."""

    step: int
    value: float
    bytes: int = 0
    xxh3_128: str = ""


def save_best(folder: Path, model: nn.Module, best: Best) -> None:
    """Write the model's weights, then remove those that were best before."""
    target = folder / f"best-{best.step:08d}.safetensors"
    with paths.atomic_path(target) as temporary:
        save_file({f"model.{name}": _storable(value) for name, value in _state(model)}, temporary)
    complete = {**asdict(best), "bytes": target.stat().st_size, "xxh3_128": xxh3_file(target)}
    paths.write_json(target.with_suffix(".json"), complete)
    for old in folder.glob("best-*.json"):
        if old.stem != target.stem:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)


def best_so_far(folder: Path) -> Best | None:
    """None before the first."""
    found = sorted(folder.glob("best-*.json"))
    return Best(**paths.read_json(found[-1])) if found else None


def load_best(folder: Path, model: nn.Module) -> Best:
    """Give the model its best weights; Refused where they are damaged."""
    best = best_so_far(folder)
    assert best is not None, "a run that keeps its best weights validates at its end"
    file = folder / f"best-{best.step:08d}.safetensors"
    if not file.is_file() or file.stat().st_size != best.bytes or xxh3_file(file) != best.xxh3_128:
        raise Refused(f"{file} is damaged: remove the run with `mmkd rm` and train anew")
    _load_model(model, load_file(file), file)
    return best


def sweep(folder: Path) -> None:
    """Remove what a killed run left unfinished: temporary files, and tensors without a record."""
    folder.mkdir(parents=True, exist_ok=True)
    paths.sweep_temporary(folder)
    for file in [*folder.glob("step-*.safetensors"), *folder.glob("best-*.safetensors")]:
        if not file.with_suffix(".json").exists():
            file.unlink()


def bytes_needed(model: nn.Module, trainable: int, kept: int) -> int:
    """Bytes of a run's checkpoints at most (one more than `kept` while it is written), and of its model."""
    model_bytes = sum(value.nbytes for _, value in _state(model))
    return (kept + 1) * (model_bytes + 2 * 4 * trainable) + model_bytes


def bytes_left(folder: Path, model: nn.Module, trainable: int, kept: int) -> int:
    """Of `bytes_needed`, what `folder`'s checkpoints do not hold: these make way once one more is there."""
    there = sum(file.stat().st_size for file in folder.glob("step-*.safetensors"))
    return max(bytes_needed(model, trainable, kept) - there, bytes_needed(model, trainable, 0))


def require_room(folder: Path, model: nn.Module, trainable: int, kept: int) -> None:
    """UserError with the missing bytes unless the disk holds the checkpoints and the model that will be written."""
    needed, free = bytes_left(folder, model, trainable, kept), shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free:,} bytes free, the run needs about {needed:,} more: free {needed - free:,} bytes, "
            "or set train.checkpoints_kept=1"
        )


def cut(path: Path, length: int) -> None:
    """Shorten metrics.jsonl to the length that a checkpoint noted; Refused if it is already shorter."""
    size = path.stat().st_size if path.exists() else 0
    if size < length:
        raise Refused(f"{path} has {size} bytes, its checkpoint says {length}: remove the run with `mmkd rm`")
    if path.exists():
        os.truncate(path, length)


def _state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers, tied ones once."""
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _storable(value: Tensor) -> Tensor:
    """A tensor that owns its memory (safetensors refuses shared storage), on the CPU."""
    value = value.detach().cpu().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


@torch.no_grad()
def _load_model(model: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    there = dict(_state(model))
    stored = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    odd = [name for name in sorted(there.keys() | stored.keys())
           if name not in there or name not in stored or there[name].shape != stored[name].shape]  # fmt: skip
    if odd:
        raise Refused(
            f"checkpoint {file} and the model differ in {len(odd)} tensors, first {odd[0]}: `mmkd rm` the run"
        )
    for name, value in there.items():
        value.copy_(stored[name])


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state(state)
