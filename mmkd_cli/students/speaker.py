"""The speaker of R2R-EnvDrop, which writes instructions of walks."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.architectures.envdrop_speaker import SpeakerNet
from mmkd_cli.core.config import key
from mmkd_cli.students.instructions import BEGIN, END, UNKNOWN
from mmkd_cli.students.navigators import Navigator, NavigatorConfig, Thinned
from mmkd_cli.students.observing import Steps


class SpeakerConfig(NavigatorConfig):
    """Keys of the student `speaker`."""

    name: str = key("speaker", "the student")
    dropout: float = key(0.6, "of words and states", source="[C] EnvDrop: 0.6", ge=0, lt=1)


class Speaker(Navigator):
    """Trained from new weights, or further."""

    Config: ClassVar[type] = SpeakerConfig

    def add_networks(self) -> None:
        config: SpeakerConfig = self.config
        self.net = SpeakerNet(len(self.tokenize), self.channels + config.angle_width, config.word_width, config.width,
                              config.dropout)  # fmt: skip

    def watch(self, steps: Steps, routes: Tensor, view: Tensor, thinned: Thinned) -> tuple[Tensor, Tensor]:
        """What is known of walks along routes int64 [B, T] (-1 behind the end) that begin looking at view [B]: states
        [B, T, H], mask [B, T]. The last step of a walk is to stop: it takes no way."""
        device = next(self.parameters()).device
        ahead, node = F.pad(routes, (0, 1), value=-1), routes[:, 0]
        ways, views = [], []
        for place in range(1, routes.shape[1] + 1):
            seen = steps.observe(node, view, device)
            there = seen.leads == ahead[:, place, None]
            moves = ahead[:, place] >= 0
            way = there.int().argmax(1)
            at = torch.arange(len(way))
            taken = torch.cat([thinned(seen.way_pictures[at, way]), seen.way_angles[at, way]], -1)
            ways.append(taken * moves.to(device)[:, None])
            views.append(torch.cat([thinned(seen.pictures), seen.angles], -1))
            node, view = torch.where(moves, ahead[:, place], node), torch.where(moves, seen.turns[at, way], view)
        mask = (routes >= 0).to(device)
        return self.net.watch(torch.stack(ways, 1), torch.stack(views, 1), mask), mask

    def cross_entropy(self, watched: tuple[Tensor, Tensor], ids: Tensor) -> Tensor:
        """Of ids int64 [B, L] (what begins them apart), summed over each text: float32 [B]."""
        scores, _ = self.net(*watched, ids[:, :-1])
        return F.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0, reduction="none").view(
            len(ids), -1
        ).sum(1)  # fmt: skip

    @torch.no_grad()
    def say(self, watched: tuple[Tensor, Tensor]) -> list[str]:
        """The likeliest word each time, never an unknown one, up to the end or `max_words`."""
        rows, device = len(watched[0]), watched[0].device
        last, memory = torch.full((rows, 1), BEGIN, device=device), None
        said, ended = [], torch.zeros(rows, dtype=torch.bool, device=device)
        for _ in range(self.config.max_words - 2):
            scores, memory = self.net(*watched, last, memory)
            scores[..., : UNKNOWN + 1] = scores[..., BEGIN] = -torch.inf  # type: ignore[call-overload]
            last = scores.argmax(-1)
            said.append(last)
            ended |= last[:, 0] == END
            if ended.all():
                break
        return [self.tokenize.text_of(row) for row in torch.cat(said, 1).tolist()]
