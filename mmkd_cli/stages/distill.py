"""`mmkd distill`: a student is trained on what a teacher says, from a cache or live.

config -> data, cache or teacher opened -> plan -> student built -> trained, from its newest checkpoint -> manifest.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import SerializeAsAny

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import StageContext
from mmkd_cli.core.references import absolute_places
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


class Config(TrainingStageConfig):
    """`stage = "distill"`."""

    slots: ClassVar[dict[str, str]] = {"method": "methods", "student": "students", "teacher": "teachers"}
    chosen: ClassVar[dict[str, str]] = {"student": "unimodal"}

    method: SerializeAsAny[Table] = key(description="how to distil, by name, and its keys")
    student: SerializeAsAny[Table] = key(description="what is trained, by name (default: unimodal), and its keys")


def run(config: Config, context: StageContext) -> dict[str, Any]:
    """Train the run, go on with it, repair it, or say that it is there. Returns the stage's document."""
    device = open_process(context.device)
    method = registry.load("methods", config.method.name)
    config, runs = named_runs(method, config, context.root)
    teacher = absolute_places(config.teacher, context.root) if config.teacher else None
    opened = open_inputs(
        context.root, config.data, config.cache, teacher, lambda tables: method.signals(config, tables),
        live=config.live, workers=context.workers, trained=trains_teacher(method, config),
        if_cached=(lambda tables: method.if_cached(config, tables)) if hasattr(method, "if_cached") else None,
    )  # fmt: skip
    if getattr(method, "runs_teacher", False):
        opened.require_teacher()
    if getattr(method, "reads_tokenizer", False):
        opened.require_tokenizer()
    for name, one in runs.items():
        if name not in getattr(method, "of_other_teachers", ()):
            opened.require_same(one)
    config = config.model_copy(update={"teacher": opened.teacher})
    recipe = Recipe(
        config.method.name, lambda data, on: method.build(config, data, on), method.files(config),
        tuple(one.as_input(role) for role, one in runs.items()),
        content=lambda trainable: {"repairs": method.repairs(config)} if hasattr(method, "repairs") else {},
    )  # fmt: skip
    return Job("distill", config, context, opened, recipe, device)()


def describe(config: Config) -> dict[str, Any]:
    """What `mmkd show FILE.toml` says of a configuration: parameters, counted without weights or network."""
    teacher = config.teacher and registry.load("teachers", config.teacher.name)(config.teacher)
    return described(registry.load("methods", config.method.name).count(config, teacher))
