"""metrics.jsonl: a line a step, held on the device until it is written."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmkd_cli.core import paths
from mmkd_cli.core.contracts import Feed
from mmkd_cli.core.errors import UserError
from mmkd_cli.training.sampler import GlobalBatch, Streams
from mmkd_cli.training.tracking import Track


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that may be missing. A last one that a killed writer left torn is cut off the file."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    try:
        torn = bool(lines) and not (lines[-1].endswith(b"\n") and json.loads(lines[-1]))
    except ValueError:
        torn = True
    if torn:
        os.truncate(path, sum(map(len, lines[:-1])))
        lines.pop()
    return [json.loads(line) for line in lines]


class _Line(NamedTuple):
    step: int
    epoch: int
    lr: float
    names: tuple[str, ...]
    checked: int
    """How many of the values must be finite: the losses, then the gradient's norm if it is there."""
    values: Tensor


class MetricsLog:
    """Collects steps; `flush` brings them to the host, refuses what is not finite, and writes.

    Only the main process writes; all of them check.
    """

    def __init__(self, path: Path, writes: bool, sampler: Streams, feeds: Sequence[Feed]) -> None:
        self._path, self._writes, self._sampler, self._feeds = path, writes, sampler, feeds
        self._held: list[_Line] = []
        self.track: Track | None = None
        self.last: dict[str, float] = {}

    def step(
        self, batch: GlobalBatch, lr: float, losses: Mapping[str, Tensor], report: Mapping[str, Tensor]
    ) -> None:  # fmt: skip
        """Note a step. losses: scalars that must be finite ("loss" is their weighted sum). report: others."""
        names, values = (*losses, *report), [*losses.values(), *report.values()]
        self._held.append(
            _Line(batch.step, batch.epoch, lr, names, len(losses), torch.stack([v.detach().float() for v in values]))
        )

    def skipped(self, batch: GlobalBatch, lr: float) -> None:
        """Note a step that was left out because something in it was not finite."""
        self.flush()
        self._write([{"step": batch.step + 1, "epoch": batch.epoch, "lr": lr, "skipped": True}])

    def flush(self) -> None:
        """Write what is held. UserError at the first step with a NaN or infinite loss; the lines before it stand."""
        if not self._held:
            return
        held, self._held = self._held, []
        flat = torch.cat([line.values for line in held]).tolist()
        lines: list[dict[str, Any]] = []
        for line in held:
            values, flat = flat[: len(line.names)], flat[len(line.names) :]
            named = dict(zip(line.names, values, strict=True))
            for name in line.names[: line.checked]:
                if not math.isfinite(named[name]) and name != "loss":
                    self._write(lines)
                    raise UserError(self._diverged(line, name, named[name]))
            self.last = {k: v for k, v in named.items() if math.isfinite(v)}
            lines.append({"step": line.step + 1, "epoch": line.epoch, "lr": line.lr,
                          **{k: v if math.isfinite(v) else None for k, v in named.items()}})  # fmt: skip
        self._write(lines)

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a line that is no training step, such as a validation's."""
        self.flush()
        self._write([line])

    def last_step(self) -> dict[str, float]:
        """The numbers of the last step that was not left out: of this call, else of an earlier one, from the file."""
        if self.last or not self._path.exists():
            return self.last
        with open(self._path, encoding="utf-8") as file:
            text = next(iter(deque((line for line in file if '"loss": ' in line), maxlen=1)), "{}")
        return {k: v for k, v in json.loads(text).items() if v is not None and k not in ("step", "epoch", "lr")}

    def bytes(self) -> int:
        """Length of the file, once it is on the disk: a record must not count on more than a power cut leaves."""
        if not self._path.exists():
            return 0
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())
            paths.fsync_folder(self._path.parent)
            return os.fstat(file.fileno()).st_size

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if lines and self._writes:
            with open(self._path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)
            if self.track is not None:
                for line in lines:
                    self.track(line, line["step"])

    def _diverged(self, line: _Line, name: str, value: float) -> str:
        parts = [part for batch in self._sampler.batches(line.step) for part in batch.parts]
        rows = "; ".join(
            f"{self._feeds[part.feed].name!r} rows (from 0) {', '.join(map(str, part.rows[:10].tolist()))}"
            + (f", ... ({len(part.rows)} in all)" if len(part.rows) > 10 else "")
            for part in parts
        )
        return (
            f"step {line.step + 1}: {name} is {value} (batch of {rows}): lower train.peak_lr or set train.clip_norm, "
            "or leave such steps out with --on-nan skip"
        )
