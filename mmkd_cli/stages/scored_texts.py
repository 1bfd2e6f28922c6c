"""What `evaluate --predictions` opens: a result file or a result of `generate`, and prepared references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core import artifacts, lineage, registry
from mmkd_cli.core.artifacts import Artifact, Input
from mmkd_cli.core.contracts import Bench, Heat
from mmkd_cli.core.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmkd_cli.data.prepared import PreparedData


@dataclass(frozen=True)
class ScoredTexts:
    """result: of `mmkd generate`, None of a plain file. data, split: the references, where no --annotations hold them;
    else None, and the split as it was named."""

    file: str
    root: Path
    result: Artifact | None
    data: PreparedData | None
    split: str | None

    @property
    def name(self) -> str:
        return self.result.name if self.result else Path(self.file).name

    def inputs(self) -> tuple[Input, ...]:
        found = [self.result.as_input("predictions")] if self.result else []
        return (*found, *([self.data.artifact.as_input("data")] if self.data else []))

    def behind(self, role: str) -> Artifact | None:
        """The run, or the data, that texts of `mmkd generate` were written from."""
        return _behind(self.root, self.result, role)

    def heat(self) -> Heat | None:
        """What the run looked at that chose these answers; None unless it saw cells, or pictures, of the same data."""
        run, cache, data = (self.behind(role) for role in ("model", "cache", "data"))
        if run is None or data is None or self.data is None or self.result is None:
            return None
        tower = run.plan["config"]["student"].get("tower") or {}
        if cache is None and tower.get("mode") != "trained":
            return None
        if data.fingerprint != self.data.artifact.fingerprint or self.split != self.result.plan["identity"]["split"]:
            return None
        student = registry.load("students", run.plan["config"]["student"]["name"])
        return RunHeat(self.root, run, cache, str(self.split)) if hasattr(student, "attention") else None


class RunHeat:
    """`core.contracts.Heat` of a run, which is opened when it is first asked."""

    def __init__(self, root: Path, run: Artifact, cache: Artifact | None, split: str) -> None:
        self._opening = (root, run, cache, split)

    @cached_property
    def _heat(self) -> Heat | None:
        from mmkd_cli.cache.reader import Cache
        from mmkd_cli.stages.grid_models import CellHeat
        from mmkd_cli.students.dual_encoders import open_dual_encoder

        root, run, cache, split = self._opening
        return CellHeat.of(open_dual_encoder(str(run.path), root=root), Cache(cache) if cache else None, split)

    def __call__(self, asked: str, rows: Sequence[int], pictures: Sequence[Image]) -> list[Image]:
        return list(pictures) if self._heat is None else self._heat(asked, rows, pictures)


def open_scored_texts(config: Any, root: Path, bench: Bench) -> ScoredTexts:
    """The references are those of --data, else of the data that the texts were written from where these have any."""
    from mmkd_cli.data.prepared import PreparedData, open_data

    name, result = config.predictions, None
    if not Path(name).is_file():
        result = _written(root, name)
        name = str(result.path / result.content["predictions"])
    tables, has_own = getattr(bench, "tables", ()), "annotations" in bench.files()
    data = None
    if config.data is not None:
        if has_own:
            raise UserError("--annotations takes the place of --data: leave one of them out")
        data = open_data(root, config.data)
    elif tables and not has_own and (there := _behind(root, result, "data")) is not None:
        data = PreparedData(artifacts.open_artifact(root, str(there.path), "data"))
    if data is None:
        return ScoredTexts(name, root, result, None, config.split)
    split = _split(config, result, data, bench)
    if config.data is None and not all(table in data.rows[split] for table in tables):
        return ScoredTexts(name, root, result, None, config.split)
    return ScoredTexts(name, root, result, data, split)


def _split(config: Any, result: Artifact | None, data: PreparedData, bench: Bench) -> str:
    """The named split, else the one that the texts were written from, else the bench's."""
    from mmkd_cli.benches.runner import default_split

    written = result.plan["identity"].get("split") if result else None
    split = config.split or (written if written in data.splits else default_split(bench, data.splits))
    data.tables(split)
    return split


def _behind(root: Path, result: Artifact | None, role: str) -> Artifact | None:
    made_from = [i for i in result.inputs if i.role == role] if result else []
    return lineage.find(root, made_from[0]) if made_from else None


def _written(root: Path, name: str) -> Artifact:
    """A result of `mmkd generate`, finished."""
    missing = f"predictions {name} is not a file: give the bench's result file, or a result of `mmkd generate`"
    try:
        found = artifacts.open_artifact(root, name, "result")
    except UserError as error:
        raise UserError(f"{missing} ({error})") from None
    if "predictions" not in found.content:
        raise UserError(f"{missing} ({found.label} is of `mmkd {found.plan['stage']}`)")
    return found
