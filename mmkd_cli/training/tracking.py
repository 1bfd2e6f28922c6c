"""Trackers of a run beside its metrics.jsonl: TensorBoard or Weights & Biases, through accelerate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError

Track = Callable[[Mapping[str, Any], int], None]
"""Called with the numbers of a line and its step."""


def open_tracker(kind: str, folder: Path, first: int) -> Track:
    """Log a run's numbers to `kind`. TensorBoard's files lie in `folder`/tracking.

    first: steps done when this process began; what an earlier one logged beyond them is void.
    """
    from accelerate import tracking
    from accelerate.state import PartialState

    PartialState()  # the trackers ask it for the main process
    try:
        if kind == "tensorboard":
            tracker: Any = tracking.TensorBoardTracker("tracking", folder, purge_step=first + 1)
        else:
            tracker = tracking.WandBTracker("mmkd", name=folder.name, dir=str(folder), resume="allow", id=folder.name)
        tracker.start()
    except ImportError as error:
        raise UserError(f"--track {kind}: {error.name} is not installed: pip install 'mmkd[track]'") from None

    def track(line: Mapping[str, Any], step: int) -> None:
        values = {name: value for name, value in line.items() if isinstance(value, float)}
        tracker.log(values, step=step)

    return track
