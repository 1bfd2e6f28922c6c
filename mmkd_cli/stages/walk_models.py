"""What `generate` asks of agents that walk: they take a writer's place (`architectures.writer`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.architectures.writer import Asked
from mmkd_cli.core.contracts import Table, Targets
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.walks import Houses, Views, angles_of, view_of
from mmkd_cli.students.observing import Steps
from mmkd_cli.students.walking import search
from mmkd_cli.tasks.walking_feed import seen_of


class WalkWriter:
    """An agent, asked as a writer is. What it says is its walk, as JSON: a list of [viewpoint, heading, elevation]."""

    encodes = True

    def __init__(self, model: Any, name: str, split: str, tables: Any, targets: Targets) -> None:
        table: Table = tables["viewpoints"]
        self.model, houses = model.eval(), Houses.of([table])
        views = Views([seen_of(name, split, tables, targets, model.image_signal)], [0])
        self.steps = Steps(houses, views, model.config.angle_width)
        if self.steps.channels != model.channels:
            raise UserError(
                f"the views are {self.steps.channels} wide, the agent's were {model.channels}: name a cache of its own "
                "teacher"
            )
        own = zip(houses.scans.tolist(), houses.names.tolist(), strict=True)
        self._row = {f"{scan}_{viewpoint}": row for row, (scan, viewpoint) in enumerate(own)}

    def __call__(
        self, asked: Sequence[Asked], how: GenerationConfig, *, batch_size: int, seed: int = 0, images: Any = None,
        precision: str = "float32", done: Callable[[int], None] = lambda rows: None,
    ) -> list[str]:  # fmt: skip
        """Walks that follow the sources from where the prefixes say."""
        if how.do_sample:
            raise UserError("generation.do_sample: agents search and do not draw: leave it out")
        device, texts = next(self.model.parameters()).device, []
        for first in range(0, len(asked), batch_size):
            part = asked[first : first + batch_size]
            starts, headings = zip(*(one.prefix.rsplit(" ", 1) for one in part), strict=True)
            rows = torch.tensor([self._row[start] for start in starts])
            view = torch.from_numpy(view_of(np.array([float(heading) for heading in headings])))
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                read = self.model.read([one.source for one in part])
                walked = search(self.model, read, self.steps, rows, view, beams=how.num_beams or 1,
                                most=how.max_new_tokens)  # fmt: skip
            names = self.steps.houses.names
            for row in range(len(part)):
                texts.append(json.dumps([[str(names[at]), *angles_of(look)] for at, look in walked.of(row)]))
            done(len(part))
        return texts
