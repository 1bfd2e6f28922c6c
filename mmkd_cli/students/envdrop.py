"""The agent of R2R-EnvDrop, with the critic of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mmkd_cli.architectures.envdrop import Critic, Read, Reader, Walker
from mmkd_cli.core.config import key
from mmkd_cli.students.navigators import Navigator, NavigatorConfig, Thinned
from mmkd_cli.students.observing import Observation


class EnvDropConfig(NavigatorConfig):
    """Keys of the student `envdrop`."""

    name: str = key("envdrop", "the student")
    action_width: int = key(64, "of the last direction", source="[C] EnvDrop: 64", ge=1)
    dropout: float = key(0.5, "of words and states", source="[C] EnvDrop: 0.5", ge=0, lt=1)


class EnvDrop(Navigator):
    """Trained from new weights, or further."""

    Config: ClassVar[type] = EnvDropConfig

    def add_networks(self) -> None:
        config: EnvDropConfig = self.config
        self.reader = Reader(len(self.tokenize), config.word_width, config.width, config.dropout)
        self.walker = Walker(self.channels, config.angle_width, config.width, config.action_width, config.dropout)
        self.critic = Critic(config.width, config.dropout)

    def step(
        self, read: Read, state: Tensor, cells: Tensor, seen: Observation, thinned: Thinned = lambda pictures: pictures
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `architectures.envdrop.Walker`: scores [B, M + 1], state, cells, and what the critic reads [B, H]."""
        views = torch.cat([thinned(seen.pictures), seen.angles], -1)
        ways = torch.cat([thinned(seen.way_pictures), seen.way_angles], -1)
        stepped: tuple[Tensor, Tensor, Tensor, Tensor] = self.walker(
            read, state, cells, seen.facing, views, ways, seen.allowed
        )
        return stepped

    def read(self, texts: Sequence[str]) -> Read:
        """Instructions."""
        device = next(self.parameters()).device
        found: Read = self.reader(*(value.to(device) for value in self.tokenize(texts).values()))
        return found
