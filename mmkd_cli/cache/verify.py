"""Does a cache say what its teacher says? Some rows computed again, beside two controls.

control: the live teacher against itself in another batch shape (what the arithmetic alone changes). rounding: the
live value against itself in the stored precision (what storing alone changes). An error far above both is a fault.
A teacher of token distributions compares those itself: their ids have no distance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.cache.inputs import TeacherInputs
from mmkd_cli.cache.reader import Cache
from mmkd_cli.core.contracts import Ragged, SignalSpec, Targets


@dataclass(frozen=True)
class Agreement:
    """Absolute differences over the rows compared, and the largest value for scale."""

    rows: int
    error_max: float
    error_mean: float
    control_max: float
    control_mean: float
    rounding_max: float
    rounding_mean: float
    largest: float


def verify(cache: Cache, live: Callable[[str, int], Targets], rows: int, batch_size: int, seed: int
           ) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Signal -> `Agreement`, over `rows` rows of each signal chosen by seed among all splits, rejected ones left out.

    live(split, batch_size): the teacher's own targets.
    """
    found = {}
    for name, spec in cache.index.signals.items():
        stored: list[Tensor] = []
        once: list[Tensor] = []
        again: list[Tensor] = []
        counted = 0
        for split, chosen in choose(cache, spec, rows, seed):
            views = None if not cache.index.views_of(spec.table) else chosen % cache.n_views
            counted += len(chosen)
            halved = max(1, min(batch_size, len(chosen)) // 2)
            for targets, values in (
                (cache.targets(split), stored), (live(split, batch_size), once), (live(split, halved), again),
            ):  # fmt: skip
                said = targets.gather([name], chosen, views)[name]
                values.append(said.values if isinstance(said, Ragged) else said)
        found[name] = asdict(_agreement(_flat(stored), _flat(once), _flat(again), stored[0].dtype, counted))
    return found


def verify_distributions(cache: Cache, teacher: Any, inputs: TeacherInputs, rows: int, batch_size: int, seed: int
                         ) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Mean and largest of what `teacher.divergences` says of each token of `rows` rows, chosen as `verify` does."""
    signals = list(cache.index.signals)
    parts: dict[str, list[Tensor]] = {}
    counted = 0
    for split, chosen in choose(cache, cache.index.signals[signals[0]], rows, seed):
        targets = cache.targets(split)
        cut = (np.ascontiguousarray(chosen[first : first + batch_size]) for first in range(0, len(chosen), batch_size))
        for batch in inputs.batches(split, cache.index.signals[signals[0]].table, cut):
            counted += len(batch["row"])
            said = targets.gather(signals, batch["row"].numpy())
            stored = {name: widened(value.values) for name, value in said.items() if isinstance(value, Ragged)}
            for name, values in teacher.divergences(batch, stored).items():
                parts.setdefault(name, []).append(values.double().cpu())
    joined = {name: torch.cat(values) for name, values in parts.items()}
    measured = {
        f"{name}_{how}": float(getattr(values, how)()) for name, values in joined.items() for how in ("mean", "max")
    }
    tokens = len(next(iter(joined.values()), ()))
    return {"token_distributions": {"rows": counted, "tokens": tokens, **measured}}


def choose(cache: Cache, spec: SignalSpec, rows: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Split and its rows in order: `rows` in all, each row that holds a signal as likely as any other."""
    splits = [split for split in cache.splits if spec.table in cache.index.rows[split]]
    starts = np.cumsum([0, *(cache.index.rows[split][spec.table] for split in splits)])
    rejected = np.concatenate(
        [cache.of_split(split).rejected(spec.table) + start for split, start in zip(splits, starts, strict=False)]
    )
    total = int(starts[-1])
    drawn = np.random.default_rng(seed).choice(total, min(total, rows + len(rejected)), replace=False)
    kept = np.sort(drawn[~np.isin(drawn, rejected)][:rows])
    parts = np.split(kept, np.searchsorted(kept, starts[1:-1]))
    return [(split, part - start) for split, part, start in zip(splits, parts, starts, strict=False) if len(part)]


def widened(values: Tensor) -> Tensor:
    """Integers as int64, which all operations take."""
    return values if values.is_floating_point() else values.long()


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts]).double()


def _agreement(stored: Tensor, once: Tensor, again: Tensor, dtype: torch.dtype, rows: int) -> Agreement:
    error, control = (stored - once).abs(), (once - again).abs()
    rounding = (once.to(dtype).double() - once).abs()
    return Agreement(
        rows,
        float(error.max()),
        float(error.mean()),
        float(control.max()),
        float(control.mean()),
        float(rounding.max()),
        float(rounding.mean()),
        float(once.abs().max()),
    )


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Lines for people: one signal a line; of token distributions one number a line."""
    if "token_distributions" in found:
        said = found["token_distributions"]
        return [f"{name:<20}{value:>14,}" if isinstance(value, int) else f"{name:<20}{value:>14.3e}"
                for name, value in said.items()]  # fmt: skip
    head = f"{'signal':<20}{'rows':>6}{'error max':>12}{'mean':>10}{'control max':>13}{'mean':>10}{'rounding max':>14}"
    lines = [f"{head}{'mean':>10}{'largest':>10}"]
    for name, a in found.items():
        lines.append(
            f"{name:<20}{a['rows']:>6}{a['error_max']:>12.2e}{a['error_mean']:>10.1e}{a['control_max']:>13.2e}"
            f"{a['control_mean']:>10.1e}{a['rounding_max']:>14.2e}{a['rounding_mean']:>10.1e}{a['largest']:>10.3g}"
        )
    return lines
