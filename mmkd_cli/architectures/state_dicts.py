"""Weights in files: reading them, their shapes alone, and loading them with nothing missing or left over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.pickles import read_torch

CONTAINERS = ("model", "module", "state_dict", "state_dict_ema", "model_ema", "model_state")
"""Keys under which published checkpoints keep their weights."""


def read_state_dict(path: Path, *, stand_ins: bool = False, device: str = "cpu") -> dict[str, Tensor]:
    """Names to tensors of a safetensors file, or of what torch.save wrote. device "meta": shapes alone."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights {path} are not there: name a file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, device)
    return tensors_of(read_torch(path, stand_ins=stand_ins, device=device), path)


def tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint's content: itself, or the first of CONTAINERS in it; tensors alone."""
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds a {type(content).__name__}, not a table of weights: keep its weights alone")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor: keep its weights alone")
    return {str(name): value for name, value in content.items()}


def _read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        if device != "meta":
            return load_file(path, device=device)
        with safe_open(path, framework="pt") as file:
            return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is no safetensors file, or is damaged: {error}") from None


def misfit(module: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """What of `state` does not fit `module`, in one phrase; None where all does."""
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    other = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(own)} missing, the first {missing[0]!r}")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected, the first {unexpected[0]!r}")
    if other:
        name = other[0]
        parts.append(f"{len(other)} of another shape, the first {name!r} {list(state[name].shape)} "
                     f"in place of {list(own[name].shape)}")  # fmt: skip
    return "; ".join(parts) or None


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str, where: Path | str) -> None:
    """Copy `state` into `module` in the module's precision; anything missing, left over or misshapen is an error."""
    wrong = misfit(module, state)
    if wrong:
        raise UserError(f"{where} does not fit {what}: {wrong}: name the architecture that these weights are of")
    module.load_state_dict(state, strict=True)
