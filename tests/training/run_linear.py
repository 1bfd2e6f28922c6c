"""Train the linear student into folders, as one of any number of processes: FOLDER '{"key": value}' ..."""

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
    for folder, keys in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        student = LinearStudent(feeds, (ArrayFeed("v", 30),), tokens=True)
        train(student, TrainConfig(**json.loads(keys)), Path(folder), device=device)
