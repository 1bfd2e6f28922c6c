"""`mmkd finetune`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import artifacts_of, names_of, stage


@stage("finetune")
def finetune(
    task: Annotated[
        str | None, typer.Option(help="What to train for.", autocompletion=names_of("finetune_tasks"))
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="RUN, hf:FOLDER or timm:ARCH[:FILE] that training starts from.", autocompletion=artifacts_of("run")
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="What is trained (default: the task's own).", autocompletion=names_of("students")),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Of late-fusion: the run's vectors that its head sees.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Teacher of the cache, or to run live.", autocompletion=names_of("teachers"))
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="NAME[:CACHE][@WEIGHT]; repeatable.", autocompletion=artifacts_of("data"))
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="Cached teacher signals.", autocompletion=artifacts_of("cache"))
    ] = None,
    live: Annotated[bool | None, typer.Option("--live", help="Run the teacher, without a cache.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of the global batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    allow_rejected: Annotated[
        bool | None, typer.Option("--allow-rejected", help="Leave rejected rows out, and go on.")
    ] = None,
    on_nan: Annotated[str | None, typer.Option(help="stop, or skip the step and count.")] = None,
    track: Annotated[str | None, typer.Option(help="tensorboard or wandb: log the run there, too.")] = None,
) -> dict[str, Any]:
    """Train a run, or a model of transformers, further for a task.

    Run it again after a kill: it goes on where it stopped, with the same losses.

    Example: mmkd finetune --task summarization --model hf:bart-base --data xsum --name summarizer
    """
    table: dict[str, Any] = {}
    if teacher is not None:
        from mmkd_cli.core.references import teacher_table

        table |= {f"teacher.{key}": value for key, value in teacher_table(teacher).items()}
    if student is not None:
        from mmkd_cli.core.references import student_table

        table |= {f"student.{key}": value for key, value in student_table(student).items()}
    return {
        **table,
        "task.name": task,
        "model": model,
        "student.layer": layer,
        "data": data,
        "cache": cache,
        "live": live,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.peak_lr": lr,
        "train.seed": seed,
        "allow_rejected": allow_rejected,
        "train.on_nan": on_nan,
        "train.track": track,
    }
