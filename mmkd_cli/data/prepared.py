"""Prepared data as stages read it: tables of splits, mapped from disk, with the rows that hold nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmkd_cli.core import artifacts
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.errors import UserError, nearest

if TYPE_CHECKING:
    import datasets


class PreparedData:
    """A finished data artifact. Tables are opened when asked for and read by memory map."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.rows: dict[str, dict[str, int]] = artifact.content["tables"]
        """split -> table -> rows."""
        self._opened: dict[tuple[str, str], datasets.Dataset] = {}
        self._rejected: dict[tuple[str, str], list[int]] = {}
        for row in (artifact.manifest or {}).get("rejected", ()):
            self._rejected.setdefault((row["split"], row["table"]), []).append(row["row"])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.rows)

    def tables(self, split: str) -> Mapping[str, datasets.Dataset]:
        """All tables of a split by name; UserError with the nearest split's name."""
        return {name: self.table(name, split) for name in self._of(split)}

    def table(self, name: str, split: str) -> datasets.Dataset:
        """One table of a split; UserError with the nearest name if it is not there."""
        if name not in self._of(split):
            raise UserError(f"{self.artifact.label} has no table {name!r} in {split!r}{nearest(name, self._of(split))}")
        if (name, split) not in self._opened:
            import datasets

            self._opened[name, split] = datasets.load_from_disk(str(self.artifact.path / name / split))
        return self._opened[name, split]

    def rejected(self, split: str, table: str) -> np.ndarray:
        """Rows that are in place and hold nothing, ascending, int64."""
        return np.array(sorted(self._rejected.get((split, table), ())), dtype=np.int64)

    def _of(self, split: str) -> dict[str, int]:
        if split not in self.rows:
            raise UserError(f"{self.artifact.label} has no split {split!r}{nearest(split, self.rows)}")
        return self.rows[split]


def open_data(root: Path, name: str) -> PreparedData:
    """Finished, undamaged data by name or path; Refused otherwise."""
    return PreparedData(artifacts.open_artifact(root, name, "data"))
