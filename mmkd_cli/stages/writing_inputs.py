"""What `generate` opens: a model that writes, the data that it writes about, and the pictures' cached vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.core import artifacts, console, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Input
from mmkd_cli.core.contracts import BenchInput, Heat, Table, Task
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.references import parse_model
from mmkd_cli.data.signals import GRID

if TYPE_CHECKING:
    from torch import Tensor

    from mmkd_cli.architectures.writer import Writer
    from mmkd_cli.data.prepared import PreparedData
    from mmkd_cli.stages.evaluation_inputs import Opened

DEFAULT_SPLIT = "test"


@dataclass
class Writing:
    """writer: loads when called, so that a finished artifact needs no weights. identity: of a model that is no run.

    vectors(rows) -> [n, d] of pictures' table rows; None where the model sees none. see(path) -> [1, d] of one picture.
    heat: what a model of cells looks at, for the page.
    """

    label: str
    inputs: tuple[Input, ...]
    identity: dict[str, Any]
    writer: Callable[[], Writer]
    data: PreparedData | None
    split: str
    vectors: Callable[[np.ndarray], Tensor] | None = None
    see: Callable[[Path], Tensor] | None = None
    heat: Heat | None = None

    @property
    def tables(self) -> Mapping[str, Table]:
        assert self.data is not None
        return self.data.tables(self.split)


def as_trained(config: Any, root: Path) -> Any:
    """The configuration with its model, by default the only run, and the task's keys as that was fine-tuned for them.

    Keys that somebody set stay.
    """
    if config.model is None:
        config = config.model_copy(update={"model": artifacts.only(root, "run", "--model").name})
        console.say(f"model: run {config.model}, the only one in {root}")
    if parse_model(config.model).library:
        return config
    table = artifacts.open_artifact(root, config.model, "run").plan["config"].get("task")
    if table is None:
        return config
    keys = _tuned(table).get(config.task.name, {})
    found = {name: value for name, value in keys.items() if name not in config.task.model_fields_set}
    changed = {name: value for name, value in found.items() if getattr(config.task, name) != value}
    for name, value in changed.items():
        console.say(f"task.{name}: {value!r}, as run {config.model} was trained")
    return config.model_copy(update={"task": config.task.model_copy(update=changed)})


def _tuned(table: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    """The tasks of `generate` that a run serves, with their keys. table: its task of `finetune`."""
    tuned = registry.load("finetune_tasks", table["name"])
    writes: Mapping[str, Mapping[str, str]] = tuned.writes(configs.validate(tuned.Config, table))
    return writes


def open_writing(config: Any, root: Path, task: Task, device: str, *, workers: int, needs_data: bool) -> Writing:
    """Open what the configuration (of `as_trained`) names; what it leaves out is the run's own, or the only one that
    fits, and said."""
    name = config.model
    reference = parse_model(name)
    if reference.library == "hf":
        return _library(config, root, task, reference.arch, device, needs_data)
    if reference.library:
        raise UserError(f"model {name!r} writes nothing: name a run of vlkd, prefix, or hf:FOLDER of a language model")
    return _run(config, root, task, device, workers, needs_data)


def _library(config: Any, root: Path, task: Task, place: str, device: str, needs_data: bool) -> Writing:
    """A language model of transformers; it sees no pictures."""
    from mmkd_cli.architectures.transformers_folder import folder_identity
    from mmkd_cli.architectures.writer import Writer, writing_config
    from mmkd_cli.core.hub import hub_folder

    if task.sees:
        raise UserError(f"model hf:{place} sees no pictures: name a run of vlkd by --model, or another --task")
    folder = hub_folder(place)
    writing_config(folder)
    data, split = _data(config, root) if needs_data else (None, DEFAULT_SPLIT)
    inputs = (data.artifact.as_input("data"),) if data else ()
    identity = {"library": "transformers", "files": folder_identity(folder, root / ".hashes", tokenizer=True)}
    return Writing(folder.name, inputs, identity, lambda: Writer.open(folder, device), data, split)


def _data(config: Any, root: Path) -> tuple[PreparedData, str]:
    from mmkd_cli.benches.runner import default_split
    from mmkd_cli.data.prepared import open_data

    data = open_data(root, config.data or artifacts.only(root, "data", "--data").name)
    asks: Any = SimpleNamespace(default_split=DEFAULT_SPLIT)
    return data, config.split or default_split(asks, data.splits)


def _run(config: Any, root: Path, task: Task, device: str, workers: int, needs_data: bool) -> Writing:
    from mmkd_cli.architectures.writer import Writer
    from mmkd_cli.stages.evaluation_inputs import open_inputs

    ways = ("language_model", "answer", "walker")
    asks: Any = SimpleNamespace(needs_data=needs_data, default_split=DEFAULT_SPLIT, asks=ways)
    opened = open_inputs(config, root, asks, device)
    model: Any = opened.model
    walks = hasattr(model, "walker")
    if walks != (task.table == "instructions"):
        does = (
            "follows instructions: it serves --task r2r and rxr" if walks else "follows no instructions: name one of "
        )
        raise UserError(f"run {opened.name!r} {does}{'' if walks else '`mmkd finetune --task r2r`'}")
    if walks:
        return _of_walks(opened)
    if hasattr(model, "tower"):
        return _of_grids(config.task.name, opened)
    if task.sees and not (hasattr(model, "memory") or hasattr(model, "begin")):
        raise UserError(f"run {opened.name!r} sees no pictures: name a run of vlkd or prefix, or another --task")

    def writer() -> Writer:
        if task.sees:
            opened.require_teacher()
        sees = {name: getattr(model, name, None) for name in ("memory", "begin")} if task.sees else {}
        return Writer(model.language_model, model.tokenizer, **sees)

    seen = _vectors(config, opened, device, workers) if task.sees else None
    see = (lambda path: _seen(model, path)) if task.sees else None
    inputs: Sequence[Input] = opened.inputs()
    return Writing(opened.label, tuple(inputs), {}, writer, opened.data, opened.split, seen, see)


def _of_grids(task: str, opened: Opened) -> Writing:
    """A run that answers or captions by the cells of cached grids (of one picture by its live teacher), or by pictures
    that it reads itself."""
    from mmkd_cli.stages.grid_models import CellHeat, Grids, GridWriter, LiveGrid
    from mmkd_cli.students.sight import CachedCells, Pictures, own_transform

    model: Any = opened.model
    tuned = opened.runs[0].plan["config"].get("task")
    if tuned is None:
        raise UserError(f"run {opened.name!r} was pre-trained and knows no answers: `mmkd finetune --model` it first")
    if task not in (serves := _tuned(tuned)):
        raise UserError(f"run {opened.name!r} was trained for another task: it serves --task "
                        f"{' or '.join(serves)}")  # fmt: skip

    def vectors(rows: np.ndarray) -> Any:
        if (transform := own_transform(model)) is not None:
            assert opened.data is not None
            return Grids(Pictures.of(opened.data.tables(opened.split)["images"], transform), rows)
        if opened.cache is None:
            raise UserError(f"no cache of these pictures holds {model.image_signal!r}: make one by "
                            "`mmkd cache-teacher` with the run's teacher")  # fmt: skip
        targets = opened.cache.targets(opened.split)
        return Grids(CachedCells(targets, targets.specs[GRID].shape[0], model.config.mask_padding), rows)

    heat = CellHeat.of(model, opened.cache, opened.split)
    return Writing(opened.label, tuple(opened.inputs()), {}, lambda: GridWriter(model), opened.data, opened.split,
                   vectors, LiveGrid(model), heat)  # fmt: skip


def _of_walks(opened: Opened) -> Writing:
    """An agent, in the houses of the data's split."""
    from mmkd_cli.stages.walk_models import WalkWriter

    model: Any = opened.model
    data, cache = opened.data, opened.cache
    assert data is not None
    if cache is None:
        raise UserError(f"no cache of {data.artifact.label} holds {model.image_signal!r} of the run's teacher in "
                        f"{opened.split!r}: make one by `mmkd cache-teacher`")  # fmt: skip

    def writer() -> Any:
        return WalkWriter(model, data.artifact.name, opened.split, data.tables(opened.split),
                          cache.targets(opened.split))  # fmt: skip

    return Writing(opened.label, tuple(opened.inputs()), {}, writer, data, opened.split)


def _vectors(config: Any, opened: Opened, device: str, workers: int) -> Callable[[np.ndarray], Tensor]:
    from mmkd_cli.benches.embedding import embed_images

    model: Any = opened.model
    given = BenchInput(
        model=model, data=opened.data, split=opened.split, targets=opened.targets(), device=device,
        batch_size=config.batch_size, workers=workers,
    )  # fmt: skip
    return lambda rows: embed_images(given, rows)


def _seen(model: Any, path: Path) -> Tensor:
    """[1, d]: the vector of one picture, by the run's live teacher."""
    import torch

    from mmkd_cli.data.pictures import PictureError, decode
    from mmkd_cli.data.ranges import picture_bytes

    try:
        picture = decode(picture_bytes(str(path)))
    except PictureError as error:
        raise UserError(f"--image {path} can't be read: {error}") from None
    pixels = model.picture_transform(picture)[None]
    batch = {"pixels": pixels, "row": torch.zeros(1, dtype=torch.int64), "id": [path.stem], "split": ""}
    vector: Tensor = model.embed_images(batch)
    return vector
