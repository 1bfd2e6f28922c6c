"""A disk that fills while a result is written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np


def test_a_full_disk_is_named_and_the_same_command_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, 300, 8)).astype(np.float32)
    np.savez(tmp_path / "e.npz", image=vectors[0], text=vectors[1], text_image=np.arange(300))
    words = [sys.executable, "-m", "mmkd_cli", "evaluate", "--bench", "retrieval", "--name", "r",
             "--embeddings", "e.npz"]  # fmt: skip

    def evaluate(file_bytes: int | None) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            if file_bytes is not None:  # the plan and the hashes' memory fit, the items do not
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        return subprocess.run(words, cwd=tmp_path, env={**os.environ, "MMKD_ROOT": "work"}, capture_output=True,
                              text=True, check=False, preexec_fn=limit)  # fmt: skip

    full = evaluate(8192)
    assert full.returncode == 2, full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert "results/r is full (File too large)" in last and "run the same command" in last
    folder = tmp_path / "work/results/r"
    assert not (folder / "manifest.json").exists() and not list(folder.rglob("*.tmp"))
    assert evaluate(None).returncode == 0 and (folder / "manifest.json").is_file()
