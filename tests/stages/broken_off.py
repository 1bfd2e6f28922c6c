"""Training that breaks off in the middle, in the test's own process, and goes on by the same command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mmkd_cli.training import loop


class BrokenOff(Exception):
    """In place of a kill: nothing after the step is done."""


def broken_off(run: Callable[[], Any], after: int) -> Any:
    """Begin a run, break it off after so many of its steps, and run it to its end; what that returns."""
    step, done = loop._Run.step, 0

    def breaking(self: Any, shares: Any) -> None:
        nonlocal done
        if done == after:
            raise BrokenOff
        done += 1
        step(self, shares)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "step", breaking)
        with pytest.raises(BrokenOff):
            run()
    return run()
