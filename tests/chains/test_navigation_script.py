"""examples/clip-vil/navigation.sh in a tiny form, and again: its agents, its runs, its table."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from mmkd_cli.core import artifacts
from tests.warm import Warm

FOLDER = Path(__file__).parents[2] / "examples" / "clip-vil"


def test_the_script_runs_and_runs_again(tmp_path: Path, warm: Warm) -> None:
    warm.commands(tmp_path / "bin")
    root = tmp_path / "root"
    given = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "MMKD_ROOT": str(root),
             "SEEDS": "0", "HOUSES": "2", "UNSEEN": "1", "PYTHONPATH": str(FOLDER.parents[1]),
             "MORE": "--set train.max_steps=2 --set student.width=16"}  # fmt: skip
    done = [
        subprocess.run(["sh", str(FOLDER / "navigation.sh")], env=given, check=False, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-2000:]
    table = [line for line in done[0].stdout.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "stop", "random", "shortest-random", "shortest", "EnvDrop on tiny CLIP, val_seen",
        "EnvDrop on tiny CLIP, val_unseen",
    ]  # fmt: skip
    assert table[5].split("|")[2].strip() == "100.0 (100.0 to 100.0)"
    assert [line for line in done[1].stdout.splitlines() if line.startswith("|")] == table
    assert done[1].stderr.count("already done") >= 10 and "made " not in done[1].stderr
    run = artifacts.read(root / "runs/tiny-clip-s0")
    assert run.plan["config"]["train"]["max_steps"] == 2 and run.content["viewpoints"] == 80
    stopped = [one["walked"] for one in map(json.loads, (root / "results/stop-val_unseen/predictions.jsonl").open())]
    assert len(stopped) == 90 and all(len(walk) == 1 for walk in stopped)
