"""What a multimodal student may begin from beside checkpoints, and which of its parameters stay as they begin."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from mmkd_cli.core import artifacts
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.encoder import Encoder


def encoder_run(folder: str, modality: str, text: str | None = None) -> Artifact:
    """The run; UserError unless its student is of one modality, of texts also of that family."""
    run = artifacts.read(Path(folder))
    student = run.plan["config"].get("student") or {}
    family = student.get("text") if modality == "text" else None
    if student.get("name") != "encoder" or student.get("modality") != modality or family != text:
        wanted = f"{text} texts" if text else f"{modality}s"
        raise UserError(f"{run.label} is no run of the student encoder that reads {wanted}: name one of layer-mean")
    return run


def encoder_of_run(folder: str, modality: str, width: int, blocks: int, text: str | None = None) -> Any:
    """The embeddings and blocks of such a run; UserError where they are of another width, or too few."""
    run = encoder_run(folder, modality, text)
    found = Encoder.load(run.path, run.plan["config"])
    if found.width != width or found.config.depth < blocks:
        raise UserError(
            f"{run.label} has {found.config.depth} blocks of width {found.width}, the student needs {blocks} of {width}"
        )
    return found.body.train()


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Leave parameters untrained whose names fit a pattern; UserError where one fits none."""
    names = dict(model.named_parameters())
    for pattern in patterns:
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise UserError(f"student.freeze {pattern!r} fits no parameter: their names are like {next(iter(names))}")
        for name in fitting:
            names[name].requires_grad_(False)
