"""Our own modules of Hugging Face's `evaluate`, loaded from their folders in assets/ with no hub."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@cache
def open_module(name: str) -> Any:
    """The `evaluate.Metric` of assets/NAME. What `evaluate` writes goes to the temporary folder."""
    import evaluate

    folder = _scratch().name
    evaluate.config.HF_MODULES_CACHE = Path(folder) / "modules"
    return evaluate.load(str(ASSETS / name), cache_dir=folder, keep_in_memory=True)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Until the process ends."""
    return tempfile.TemporaryDirectory(prefix="mmkd-evaluate-")
