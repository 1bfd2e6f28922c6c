"""Somebody else's features as a teacher: rows of a file, found by id or by row number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.signals import GRID, GRID_BOXES, GRID_SIZE
from mmkd_cli.teachers.feature_files import FeatureFile, RegionTsv, open_features

SIGNAL_OF_AXES = {("images", 1): "image_cls", ("images", 2): "image_tokens", ("images", 3): "grid",
                  ("texts", 1): "text_embedding", ("texts", 2): "text_states",
                  ("viewpoints", 2): "views"}  # fmt: skip


class PrecomputedConfig(Config):
    """A file of features."""

    name: str = key("precomputed", "the teacher")
    features: str = key(
        description="npy, npz or safetensors of [rows, ...], or a TSV of region features or of views (base64 float32)",
        identity=False,
    )
    array: str | None = key(None, "the array's name in the file (default: its only one that is no ids)")
    ids: str | None = key(
        None, "name of an array of ids in the file, or a text file with an id a line (default: ids, id, image_id or "
        "text_id in the file; without one, rows by number)", identity=False,
    )  # fmt: skip
    table: Literal["images", "texts", "viewpoints"] = key(
        "images", "the table whose rows they are of", source="[U] the usual case"
    )
    signal: str | None = key(
        None, "what they are called (default: image_cls, image_tokens, grid, text_embedding or views)"
    )
    split: str = key(
        "train", "the split that rows by number are of", source="[U] the only one of data without official splits"
    )


class Precomputed:
    """What a file holds of each row. There is no model: any number of rows cost what reading them costs."""

    Config: ClassVar[type] = PrecomputedConfig

    def __init__(self, config: PrecomputedConfig) -> None:
        self.config = config
        self.picture_transform = None
        self.tokenize = None

    @cached_property
    def _features(self) -> FeatureFile:
        return open_features(Path(self.config.features), self.config.array, self.config.ids,
                             views=self.config.table == "viewpoints")  # fmt: skip

    @cached_property
    def _places(self) -> dict[str, int] | None:
        """Id -> row of the file; None where rows go by number."""
        ids = self._features.ids
        if ids is None:
            return None
        places = {name: row for row, name in enumerate(ids)}
        if len(places) != len(ids):
            seen: set[str] = set()
            twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise UserError(f"{self.config.features}: {len(ids) - len(places)} ids stand twice, the first {twice!r}")
        return places

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the file and of a file of ids; what is read of it."""
        ids = self._features.ids_file
        return {
            "library": "precomputed",
            "features_sha256": sha256_file(Path(self.config.features), memory),
            "ids": sha256_file(ids, memory) if ids else self.config.ids,
            **self.config.model_dump(include={"array", "table", "signal", "split"}),
        }

    def signals(self) -> dict[str, SignalSpec]:
        """The file's own; a grid of [h, w, d] is cells, row by row, with their rows and columns, and regions with boxes
        are cells, too, where they are asked for as `grid`."""
        shape, ragged = self._features.shape, self._features.ragged
        name = self.config.signal or SIGNAL_OF_AXES.get((self.config.table, len(shape)))
        if name is None:
            raise UserError(
                f"{self.config.features}: a row's shape is {list(shape)}: name it by --set teacher.signal=NAME"
            )
        if name == GRID and len(shape) == 3:
            return {
                GRID: SignalSpec(GRID, self.config.table, (shape[0] * shape[1], shape[2]), along=(GRID_SIZE,)),
                GRID_SIZE: SignalSpec(GRID_SIZE, self.config.table, (2,), dtype="uint16"),
            }
        specs = {name: SignalSpec(name, self.config.table, shape, ragged)}
        if isinstance(self._features, RegionTsv) and self.config.table == "images":
            default = name == GRID
            specs[GRID] = SignalSpec(GRID, "images", shape, ragged, default=default, along=(GRID_BOXES,))
            corners = (shape[0], 4)
            specs[GRID_BOXES] = SignalSpec(GRID_BOXES, "images", corners, ragged, dtype="float32", default=default)
        return specs

    def parameters_count(self) -> int:
        return 0

    def load(self, device: str, dtype: str = "float32") -> None:
        """Find the rows; the file itself is read as they are asked for."""
        _ = self._places

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Any]:
        rows, features = self._rows(batch), self._features
        said: dict[str, Any] = {}
        if isinstance(features, RegionTsv) and GRID_BOXES in signals:
            said[GRID_BOXES] = features.boxes(rows)
        if GRID_SIZE in signals:
            said[GRID_SIZE] = torch.tensor([features.shape[:2]] * len(rows), dtype=torch.int32)
        if rest := [name for name in signals if name not in said]:
            values: Tensor | list[Tensor] = features.read(rows)
            if isinstance(values, Tensor) and values.ndim == 4 and rest == [GRID]:
                values = values.flatten(1, 2)
            said |= dict.fromkeys(rest, values)
        return said

    def _rows(self, batch: Batch) -> list[int]:
        if self._places is None:
            rows = [int(row) for row in batch["row"]]
            if batch["split"] != self.config.split:
                raise UserError(
                    f"{self.config.features} has no ids, its rows are those of the split {self.config.split!r}: name "
                    f"ids by --set teacher.ids=..., to use them for {batch['split']!r} too"
                )
            if rows and max(rows) >= self._features.rows:
                raise UserError(
                    f"{self.config.features} has {self._features.rows} rows, the table more (row {max(rows)}, from 0): "
                    "it is of other data"
                )
            return rows
        missing = [name for name in batch["id"] if name not in self._places]
        if missing:
            raise UserError(
                f"{self.config.features} has no features of {missing[0]!r} ({len(missing)} of these "
                f"{len(batch['id'])} rows): it is of other data, or other ids"
            )
        return [self._places[name] for name in batch["id"]]
