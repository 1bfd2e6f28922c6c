"""A walk for each instruction, in the layouts of Room-to-Room's and Room-across-Room's submissions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Table, TextItem
from mmkd_cli.core.errors import UserError
from mmkd_cli.tasks.official import official_id

COLUMNS = ("instruction_id", "instruction", "scan", "path", "heading", "language")


class WalksConfig(Config):
    """Keys of these tasks."""

    stage_defaults: ClassVar[dict[str, Any]] = {"generation": {"num_beams": 1, "max_new_tokens": 35}}
    """[C] EnvDrop: the likeliest step each time, at most 35."""

    name: str = key("", "the task")
    language: str = key("", "only instructions whose language begins so", source="[U] all")


class R2rConfig(WalksConfig):
    name: str = key("r2r", "the task")


class RxrConfig(WalksConfig):
    name: str = key("rxr", "the task")


class R2r:
    """`core.contracts.Task`. What is written is a walk, a JSON list of [viewpoint, heading, elevation]; an item's
    prefix is where it begins: SCAN_VIEWPOINT, and the heading in radians."""

    Config: ClassVar[type] = R2rConfig
    table: ClassVar[str] = "instructions"
    sees: ClassVar[bool] = False
    file: ClassVar[str] = "trajectories.json"
    inputs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: WalksConfig) -> None:
        self.config = config

    def files(self) -> Mapping[str, str]:
        return {}

    def rows(self, tables: Mapping[str, Table]) -> int:
        if self.table not in tables:
            raise UserError("these data have no table 'instructions': prepare them from r2r or rxr")
        return len(tables[self.table])

    def items(self, tables: Mapping[str, Table], first: int, last: int) -> Sequence[TextItem]:
        table: Any = tables[self.table]
        found = table.select_columns([*COLUMNS])[first:last]
        return [
            TextItem(one, text, f"{scan}_{path[0] if path else ''} {heading!r}", asked=text,
                     wanted=language.startswith(self.config.language))
            for one, text, scan, path, heading, language in zip(*(found[name] for name in COLUMNS), strict=True)
        ]  # fmt: skip

    def one(self, text: str) -> TextItem:
        raise UserError("a walk begins somewhere: give prepared data by --data")

    def text_of(self, item: TextItem, written: str) -> str:
        return written

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"instr_id": row, "trajectory": json.loads(text)}


class Rxr(R2r):
    """Viewpoints alone."""

    Config = RxrConfig
    file = "paths.json"

    def official(self, row: str, text: str) -> dict[str, Any]:
        return {"instruction_id": official_id(row), "path": [step[0] for step in json.loads(text)]}
