"""What a user sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PLAIN_EVERY_S = 30.0


@dataclass
class _Level:
    quiet: bool = False
    verbose: bool = False


LEVEL = _Level()


def stderr() -> Console:
    """A console on the current stderr (looked up each time, so that tests and redirections are honoured)."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for the user, unless --quiet."""
    if not LEVEL.quiet:
        stderr().print(text, markup=False)


def detail(text: str) -> None:
    """A line that only --verbose shows."""
    if LEVEL.verbose:
        stderr().print(text, markup=False)


def warn(text: str) -> None:
    """A line that even --quiet shows."""
    stderr().print(f"warning: {text}", markup=False)


def emit(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


class Meter:
    """Counts finished units. `advance(n, note)` updates the bar; without a terminal, a plain line every 30 s."""

    def __init__(self, what: str, total: int, unit: str, start: int, bar: Progress | None) -> None:
        self.what, self.total, self.unit, self.done, self.first = what, total, unit, start, start
        self.started = self._last = time.monotonic()
        self._bar = bar
        self._task = bar.add_task(what, total=total, completed=start, rate="", note="") if bar else None

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        rate = (self.done - self.first) / max(now - self.started, 1e-9)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{rate:,.1f} {self.unit}/s", note=note)
        elif not LEVEL.quiet and now - self._last >= _PLAIN_EVERY_S:
            self._last = now
            left = f"{rate:,.1f}/s, {(self.total - self.done) / max(rate, 1e-9):,.0f} s left"
            say(f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {left} {note}".rstrip())


@contextmanager
def progress(what: str, total: int, unit: str = "rows", start: int = 0) -> Iterator[Meter]:
    """A progress bar with rate and time left on a terminal, plain lines elsewhere, nothing with --quiet."""
    console = stderr()
    if LEVEL.quiet or not console.is_terminal:
        yield Meter(what, total, unit, start, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeRemainingColumn(), TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        yield Meter(what, total, unit, start, bar)
