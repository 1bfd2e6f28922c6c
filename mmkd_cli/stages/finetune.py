"""`mmkd finetune`: a model that is there, a run or a library's, is trained further for one task.

config -> model, data, cache opened -> plan -> model built -> trained, from its newest checkpoint -> manifest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SerializeAsAny

from mmkd_cli.core import artifacts, console, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import StageContext
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.references import absolute_places, parse_model
from mmkd_cli.stages.training_data import open_inputs
from mmkd_cli.stages.training_job import (
    Job,
    Recipe,
    TrainingStageConfig,
    described,
    named_runs,
    open_process,
    trains_teacher,
)

_BEGINNINGS = ("weights", "image_weights", "text_weights", "init_image", "init_text")
"""Keys of students that name what they begin with: of one that is a run, the run alone does."""


class Config(TrainingStageConfig):
    """`stage = "finetune"`."""

    slots: ClassVar[dict[str, str]] = {"task": "finetune_tasks", "student": "students", "teacher": "teachers"}

    task: SerializeAsAny[Table] = key(description="what to train for, by name, and its keys")
    model: str | None = key(
        None, "RUN, hf:ID|FOLDER or timm:ARCH[:FILE] that training starts from (default: the only run of distill that "
        "fits)",
        identity=False,
    )  # fmt: skip
    student: SerializeAsAny[Table] = key(description="what is trained, by name (default: the task's), and its keys")


def run(config: Config, context: StageContext) -> dict[str, Any]:
    """Train the run, go on with it, repair it, or say that it is there. Returns the stage's document."""
    device = open_process(context.device)
    task = registry.load("finetune_tasks", config.task.name)
    config, start = _started(config, context.root, task)
    config, runs = named_runs(task, config, context.root)
    trained = trains_teacher(task, config)
    opened = open_inputs(
        context.root, config.data, config.cache, _teacher(config, start, context.root, config.live or trained),
        lambda tables: task.signals(config, tables),
        live=config.live, workers=context.workers, trained=trained,
    )  # fmt: skip
    for one in (*([start] if start else []), *runs.values()):
        opened.require_same(one)
    config = config.model_copy(update={"teacher": opened.teacher})
    files = task.files(config)
    if start is None and task.trains[config.student.name]:
        files = {**files, **registry.load("students", config.student.name).files(config.student)}
    place = start.path if start else None
    recipe = Recipe(
        config.task.name, lambda data, on: task.build(config, data, place, on), files,
        (*((start.as_input("model"),) if start else ()), *(one.as_input(role) for role, one in runs.items())),
        lambda trainable: trainable.content,
    )  # fmt: skip
    return Job("finetune", config, context, opened, recipe, device)()


def describe(config: Config) -> dict[str, Any]:
    """What `mmkd show FILE.toml` says of a configuration: parameters, without weights; nothing where a run is named."""
    if config.model is not None and not parse_model(config.model).library:
        return {}
    task = registry.load("finetune_tasks", config.task.name)
    teacher = config.teacher and registry.load("teachers", config.teacher.name)(config.teacher)
    return described(task.count(_of_library(config, task.trains) if config.model else config, teacher))


def _started(config: Config, root: Path, task: Any) -> tuple[Config, Artifact | None]:
    """The configuration with the student's keys as its run or folder gives them, and the run, if there is one.

    Where no student was named, it is the run's own if the task trains that.
    """
    trains: Mapping[str, Collection[str]] = task.trains
    student = config.student.name
    if student not in trains:
        raise UserError(
            f"task {config.task.name!r} does not train student {student!r}: name one of {', '.join(trains)}"
        )
    if config.model is not None and parse_model(config.model).library:
        return _of_library(config, trains), None
    begun = [name for name in _BEGINNINGS if getattr(config.student, name, None)]
    begun += ["arch"] if _of_timm(config.student) and config.student.arch else []  # type: ignore[attr-defined]
    fresh = student in getattr(task, "fresh", ()) or getattr(config.student, "init", None) == "random"
    if config.model is None and (begun or fresh or not trains[student]):
        return config, None
    usual = task.Config.stage_defaults.get("student") == config.student.model_dump(exclude_unset=True)
    starts = {one for name, found in trains.items() if name == student or (usual and name in found) for one in found}
    if config.model is None:
        start = artifacts.only(
            root, "run", "--model", lambda a: a.plan["stage"] == "distill" and _student(a) in starts,
            f" whose student is {' or '.join(sorted(starts))}",
        )  # fmt: skip
        console.say(f"model: run {start.name}, the only one in {root} that fits")
    start = artifacts.open_artifact(root, config.model or str(start.path), "run")
    own = _student(start)
    if own not in starts:
        raise Refused(
            f"{start.label} is a {own!r}, the task {config.task.name!r} starts from "
            f"{' or '.join(trains[student]) or 'no run'}: name another --model"
        )
    if own not in trains[student]:
        student, values = own, {**config.model_dump(mode="json", exclude_unset=True), "student": {"name": own}}
        config = configs.validate(configs.compose(Config, values), values)
    if getattr(config.student, "start", None):
        raise UserError("student.start is of distill: name the run that training starts from by --model")
    if begun:
        raise UserError(
            f"student.{begun[0]} and --model {start.name} both say where training starts: leave one of them out"
        )
    if own == student:  # its own keys, but those that were said
        said = config.student.model_dump(mode="json", exclude_unset=True)
        table = configs.merge(start.plan["config"]["student"], said)
        begun_with = (*_BEGINNINGS, "start", "pooler")  # of the run itself
        table |= {name: None for name in begun_with if name in table}
        config = config.model_copy(update={"student": configs.validate(type(config.student), table)})
    return config, start


def _of_library(config: Config, trains: Mapping[str, Collection[str]]) -> Config:
    """The configuration whose student has the model that --model names."""
    library, arch, weights = parse_model(str(config.model))
    of_timm = _of_timm(config.student)
    if library != ("timm" if of_timm else "hf") or not trains[config.student.name]:
        said = "timm:ARCH[:FILE]" if of_timm else "hf:FOLDER of transformers"
        raise UserError(f"model {config.model!r}: the task {config.task.name!r} does not start from it: name a run, or "
                        f"{said}")  # fmt: skip
    named = {"arch": arch, "weights": weights} if of_timm else {"weights": arch}
    for name, value in named.items():
        if getattr(config.student, name) not in (None, value):
            raise UserError(f"student.{name} and --model {config.model} differ: leave one of them out")
    return config.model_copy(update={"student": config.student.model_copy(update=named)})


def _of_timm(student: Table) -> bool:
    """Whether a student may be a timm model: its `arch` says which."""
    return student.name == "image-classifier"


def _teacher(config: Config, start: Artifact | None, root: Path, runs: bool) -> Any:
    """The teacher that was asked for; of one that runs beside training and is not named the run's own."""
    if config.teacher is not None:
        return absolute_places(config.teacher, root)
    table = start.plan["config"].get("teacher") if start else None
    if not (runs and table) or config.cache:
        return None
    return configs.validate(registry.load("teachers", table["name"]).Config, table)


def _student(run: Artifact) -> str:
    return str(run.plan["config"]["student"]["name"])
