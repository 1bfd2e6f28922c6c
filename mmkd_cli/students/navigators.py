"""What students of navigation share: words of instructions, views of one signal, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Teacher
from mmkd_cli.core.errors import Refused
from mmkd_cli.students.instructions import InstructionWords

Thinned = Callable[[Tensor], Tensor]
"""Pictures' features [..., D] as a training lets them be seen."""


class NavigatorConfig(Config):
    """Keys that all have."""

    name: str = key("", "the student")
    word_width: int = key(256, "of a word's vector", source="[C] EnvDrop: 256", ge=1)
    width: int = key(512, "of the states", source="[C] EnvDrop: 512", ge=2, multiple_of=2)
    angle_width: int = key(128, "of the angles' features", source="[C] EnvDrop: 128", ge=4, multiple_of=4)
    max_words: int = key(80, "longest instruction", unit="words", source="[C] EnvDrop: 80; of RxR 160", ge=3)


class Navigator(nn.Module):
    """A student is this with its networks. channels: of a view's picture. signal: the teacher's, of the views."""

    Config: ClassVar[type] = NavigatorConfig
    layers: tuple[str, ...] = ()

    def __init__(self, config: Any, words: Sequence[str], channels: int, signal: str) -> None:
        super().__init__()
        self.config, self.channels, self.image_signal = config, channels, signal
        self.tokenize = InstructionWords(words, config.max_words)
        self.add_networks()

    def add_networks(self) -> None:
        raise NotImplementedError

    @classmethod
    def empty(cls, config: Any, words: int, channels: int) -> Self:
        """On the meta device."""
        with torch.device("meta"):
            return cls(config, [str(n) for n in range(words)], channels, "")

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`."""
        return cls.of(folder / "model", config["student"])

    @classmethod
    def of(cls, place: Path, table: Mapping[str, Any] | None = None) -> Self:
        """The student of a run's `model/`, with the keys that it was saved with if none are given."""
        said = paths.read_json(place / "words.json")
        config = cls.Config.model_validate(table or said["student"])
        model = cls(config, said["words"], said["channels"], said["signal"])
        try:
            model.load_state_dict(load_file(place / "model.safetensors"))
        except RuntimeError as error:
            raise Refused(f"{place} does not fit its own configuration: {error}") from None
        return model.eval()

    @staticmethod
    def files(config: Any) -> dict[str, str]:
        """No file decides the first weights."""
        return {}

    def save(self, folder: Path) -> None:
        """Write model/: weights, what numbers of words mean, and the student's keys."""
        place = folder / "model"
        place.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        paths.write_json(place / "words.json", {
            "words": self.tokenize.words, "channels": self.channels, "signal": self.image_signal,
            "student": self.config.model_dump(mode="json"),
        })  # fmt: skip
