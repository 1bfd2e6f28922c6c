"""Train the linear student into FOLDER, with a bench slower than the process group's timeout."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.distribution import leave
from mmkd_cli.training.loop import train
from tests.training.linear_student import ArrayFeed, LinearStudent


def slow_bench(epoch: int) -> dict[str, float]:
    time.sleep(13)
    return {"recall": float(epoch)}


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=timedelta(seconds=10))
    config = TrainConfig(batch_size=16, epochs=1, peak_lr=0.01)
    student = LinearStudent((ArrayFeed("a", 64),))
    train(student, config, Path(sys.argv[1]), device=torch.device("cpu"), evaluate=slow_bench)
    leave()
