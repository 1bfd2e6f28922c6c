"""The scripts of the tiny BART and of the tiny causal language model make the same file again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("script", "more"), [("bart", ["--batch-size", "8"]), ("language_model", ["--batch-size", "4"])]
)
def test_a_script_makes_the_same_file_again(script: str, more: list[str], tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        command = [sys.executable, str(ROOT / "examples" / "tiny" / f"{script}.py"), "--out", str(tmp_path / name)]
        command += ["--work", str(tmp_path / f"{name}-work"), "--steps", "2", "--items", "8", *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]
