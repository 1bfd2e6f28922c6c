"""Fine-tuning: a speaker learns what people say of walks, to say it of walks that nobody was asked about (EnvDrop)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, Outputs
from mmkd_cli.students.speaker import Speaker
from mmkd_cli.tasks.navigation import RECIPE, NavigationTuning, NavigationTuningConfig


class SpeakerTuningConfig(NavigationTuningConfig):
    """Keys of the task `r2r-speaker`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "speaker"}, "train": {**RECIPE, "optimizer": "adam", "betas": (0.9, 0.999)},
    }  # fmt: skip
    """[C] EnvDrop."""

    name: str = key("r2r-speaker", "the task")


class SpeakerTuning(NavigationTuning):
    """`core.contracts.FinetuneTask` and its `Trainable`. It sees the way that the agent would imitate."""

    Config: ClassVar[type] = SpeakerTuningConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {"speaker": ("speaker",)}
    student: ClassVar[type] = Speaker
    weights = MappingProxyType({"cross_entropy": 1.0})

    def forward(self, batch: Batch) -> Outputs:
        """cross_entropy: its sum over a text's words."""
        route, view, ids = batch["route"].cpu(), batch["view"].cpu(), batch["input_ids"]
        watched = self.model.watch(self.steps, route, view, self.thinned(ids.device))
        return Outputs({"cross_entropy": self.model.cross_entropy(watched, ids)})

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """The loss counts words, the end among them."""
        return {"cross_entropy": int(batch["attention_mask"].sum()) - len(batch["attention_mask"])}
