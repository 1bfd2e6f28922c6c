"""A trained run as a teacher: its student's vectors of pictures and of texts, in the space where it compares them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmkd_cli.core import artifacts, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, DualEncoder, PictureTransform, SignalSpec, Teacher, Tokenize
from mmkd_cli.core.errors import UserError


class RunConfig(Config):
    """A run of this toolkit."""

    name: str = key("run", "the teacher")
    weights: str | None = key(None, "the run: its name or its folder", identity=False)


class Run:
    """`image_embedding`, `text_embedding` of a run whose student embeds both, not normalised.

    Signals are as wide as the student says, so that asking for them opens it. Where its pictures start from a signal of
    its own teacher, that teacher is asked, live.
    """

    Config: ClassVar[type] = RunConfig

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def artifact(self) -> Artifact:
        """The run, finished and undamaged."""
        if not self.config.weights:
            raise UserError("teacher 'run' needs a run: write --teacher run:NAME")
        folder = Path(self.config.weights)
        return artifacts.open_artifact(folder.parent, str(folder.absolute()), "run")

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """The run's fingerprint, which stands on the bytes of its weights."""
        return {"library": "mmkd", "run": self.artifact.fingerprint}

    @cached_property
    def _student(self) -> DualEncoder:
        config = self.artifact.plan["config"]
        table = config.get("teacher")
        student = registry.load("students", config["student"]["name"]).load(
            self.artifact.path, config, _teacher(table) if table else None
        )
        if not hasattr(student, "embed_images"):
            raise UserError(f"{self.artifact.label} embeds no pictures and texts: it is no teacher of vectors")
        opened: DualEncoder = student.requires_grad_(False)
        return opened

    @torch.no_grad()
    def signals(self) -> dict[str, SignalSpec]:
        width = self._student.embed_texts(self._student.tokenize(["a"])).shape[1]
        return {
            "image_embedding": SignalSpec("image_embedding", "images", (width,)),
            "text_embedding": SignalSpec("text_embedding", "texts", (width,)),
        }

    @property
    def picture_transform(self) -> PictureTransform:
        return self._student.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        return self._student.tokenize

    def parameters_count(self) -> int:
        """Of the student; its own teacher's are not counted."""
        assert isinstance(self._student, nn.Module)
        return sum(parameter.numel() for parameter in self._student.parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        self._device, self._dtype = device, getattr(torch, dtype)
        assert isinstance(self._student, nn.Module)
        self._student.to(device)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        embed = {"image_embedding": self._student.embed_images, "text_embedding": self._student.embed_texts}
        kind = torch.device(self._device).type
        with torch.autocast(kind, self._dtype, enabled=self._dtype != torch.float32):
            return {name: embed[name](batch).float() for name in signals}


def _teacher(table: dict[str, Any]) -> Teacher:
    chosen = registry.load("teachers", table["name"])
    made: Teacher = chosen(configs.validate(chosen.Config, table))
    return made
