"""A stage's work, killed at random moments and begun again until it ends."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLS = 3
_IMPORTED_ONCE = ["mmkd_cli.stages.distill", "mmkd_cli.stages.finetune", "mmkd_cli.stages.generate",
                  "mmkd_cli.training.loop", "mmkd_cli.methods.vlkd", "mmkd_cli.tasks.summarization",
                  "mmkd_cli.architectures.writer", "datasets", "mmkd_cli.reports.training",
                  "mmkd_cli.stages.writing_page"]  # fmt: skip


def killed(work: Callable[[Path, str], None], folder: Path, progress: Callable[[], Any], kills: int = KILLS) -> int:
    """Kill `work(folder, "killed")` some times a little after `progress` changed, then let it end.

    Returns the seed of the moments.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_IMPORTED_ONCE)
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    exits = []
    for _ in range(kills):
        before = progress()
        process = server.Process(target=work, args=(folder, "killed"))
        process.start()
        while process.is_alive() and progress() == before:
            time.sleep(0.01)  # until it is at work
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.join()
        exits.append(process.exitcode)
    assert exits[0] == -9
    process = server.Process(target=work, args=(folder, "killed"))
    process.start()
    process.join()
    assert process.exitcode == 0, f"seed {seed}"
    return seed
