"""`mmkd distill`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import artifacts_of, names_of, stage


@stage("distill")
def distill(
    method: Annotated[str | None, typer.Option(help="How to distil.", autocompletion=names_of("methods"))] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="What is trained: unimodal, ..., or open_clip:ARCH:FILE, hf:FOLDER.",
            autocompletion=names_of("students"),
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Form of the student, of vlp: single-stream, two-tower.")] = None,
    modality: Annotated[str | None, typer.Option(help="What a student of one modality reads: image, text.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Teacher of the cache, or to run live.", autocompletion=names_of("teachers"))
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="NAME[:CACHE][@WEIGHT]; repeatable.", autocompletion=artifacts_of("data"))
    ] = None,
    cache: Annotated[str | None, typer.Option(help="Cached targets.", autocompletion=artifacts_of("cache"))] = None,
    live: Annotated[
        bool | None, typer.Option("--live", help="Run the teacher beside the student, without a cache.")
    ] = None,
    init_image: Annotated[
        str | None, typer.Option(help="Run of one modality to begin with.", autocompletion=artifacts_of("run"))
    ] = None,
    init_text: Annotated[
        str | None, typer.Option(help="Run of one modality to begin with.", autocompletion=artifacts_of("run"))
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Layers of the student.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of the global batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    allow_rejected: Annotated[
        bool | None, typer.Option("--allow-rejected", help="Leave rejected rows out, and go on.")
    ] = None,
    eval_bench: Annotated[
        str | None, typer.Option(help="Bench to run after each epoch.", autocompletion=names_of("benches"))
    ] = None,
    on_nan: Annotated[str | None, typer.Option(help="stop, or skip the step and count.")] = None,
    track: Annotated[str | None, typer.Option(help="tensorboard or wandb: log the run there, too.")] = None,
) -> dict[str, Any]:
    """Train a student on a teacher's cached signals.

    Run it again after a kill: it goes on where it stopped, with the same losses.

    Example: mmkd distill --method cls-regression --data flickr8k --cache cnn --name text-to-cnn
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
        "method.name": method,
        "data": data,
        "cache": cache,
        "live": live,
        **({} if arch is None else {"student.arch": arch}),  # --student may name one
        "student.modality": modality,
        "student.init_image": init_image,
        "student.init_text": init_text,
        "student.depth": depth,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.peak_lr": lr,
        "train.seed": seed,
        "allow_rejected": allow_rejected,
        "eval_bench": eval_bench,
        "train.on_nan": on_nan,
        "train.track": track,
    }
