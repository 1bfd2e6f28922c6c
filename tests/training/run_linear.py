"""Train the linear student into a folder, as one of any number of processes: FOLDER '{"key": value}'."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.devices import open_device
from mmkd_cli.training.loop import train
from tests.training.linear_student import ArrayFeed, LinearStudent

if __name__ == "__main__":
    device = open_device("cpu")
    feeds = (ArrayFeed("a", 64), ArrayFeed("b", 51))
    student = LinearStudent(feeds, (ArrayFeed("v", 30),), tokens=True)
    train(student, TrainConfig(**json.loads(sys.argv[2])), Path(sys.argv[1]), device=device)
