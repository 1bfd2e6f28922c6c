"""Any bench, by name or by its configuration: what `evaluate` and the callback of a training both call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, validate
from mmkd_cli.core.contracts import Bench, BenchInput, Scores


def open_bench(bench: str | Mapping[str, Any] | Config) -> Bench:
    """The bench of a registered name, of a table `{name, key: value...}`, or of a validated configuration."""
    if isinstance(bench, Config):
        made: Bench = registry.load("benches", bench.name)(bench)  # type: ignore[attr-defined]
        return made
    keys = {"name": bench} if isinstance(bench, str) else dict(bench)
    chosen = registry.load("benches", str(keys.get("name")))
    return chosen(validate(chosen.Config, keys))  # type: ignore[no-any-return]


def score(bench: str | Mapping[str, Any] | Config, given: BenchInput) -> Scores:
    """Run a bench. A model that is being trained is left in the mode (training or not) that it was in."""
    import torch

    model = given.model
    training = [m for m in model.modules() if m.training] if isinstance(model, torch.nn.Module) else []
    for module in training:
        module.training = False
    try:
        return open_bench(bench).run(given)
    finally:
        for module in training:
            module.training = True


def default_split(bench: Bench, splits: tuple[str, ...]) -> str:
    """The bench's own split where the data has it, else val, else the last there is."""
    return next((name for name in (bench.default_split, "val") if name in splits), splits[-1])
