"""Where training runs: the device, the processes that torchrun or accelerate started, the precision."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mmkd_cli.core.errors import UserError


def open_device(asked: str) -> torch.device:
    """The device of this process: auto, cpu, cuda, cuda:1, mps. Joins the other processes if there are any."""
    for engine in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() in ("1", "true"):
            raise UserError(
                f"accelerate's config asks for {engine}, which training does not use: "
                "choose MULTI_GPU or MULTI_CPU in `accelerate config`, or start it with torchrun"
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        from mmkd_cli.training.distribution import leave

        joined = PartialState(cpu=asked == "cpu")
        atexit.register(leave)
        return torch.device(joined.device)
    return choose_device(asked)


def choose_device(asked: str) -> torch.device:
    """The device alone: no word to other processes. `auto` gives each of torchrun's ranks a GPU."""
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {asked!r} can't be used: {str(error).splitlines()[0]}") from None
    return device


def compute_precision(asked: str, device: torch.device) -> str:
    """float32 or bfloat16; auto is bfloat16 on a GPU."""
    if asked != "auto":
        return asked
    return "bfloat16" if device.type == "cuda" else "float32"


def widest_float(device: torch.device) -> torch.dtype:
    """What long sums are kept in: float64, and float32 on MPS, which has no wider one."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, only kernels that give the same bits each time (where torch has them)."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # costs time, and only hides bugs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled
