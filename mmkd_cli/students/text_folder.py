"""Where a student of texts alone has its first weights: a folder of transformers, named or of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmkd_cli.architectures.transformers_folder import quiet_transformers
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder


def named(config: Any) -> str:
    """The folder or hub id of a student's first weights; UserError where none is named."""
    if config.weights is None:
        raise UserError(f"student {config.name!r} starts from a model: name a run or hf:FOLDER by --model")
    return str(config.weights)


def first_folder(config: Any, start: Path | None) -> Path:
    """model/ of the run that training starts from, else the folder that the student's keys name."""
    return hub_folder(named(config)) if start is None else start / "model"


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """A model of transformers and its tokenizer, in its own layout."""
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
