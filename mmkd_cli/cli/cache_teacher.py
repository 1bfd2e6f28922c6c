"""`mmkd cache-teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import artifacts_of, names_of, stage


@stage("cache-teacher")
def cache_teacher(
    teacher: Annotated[
        str | None,
        typer.Option(
            help="beit2, clip, lm, ... or open_clip:ARCH:FILE, timm:ARCH:FILE, hf:FOLDER, diffusers:FOLDER, run:NAME.",
            autocompletion=names_of("teachers"),
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Architecture, as the teacher's library names it.")] = None,
    weights: Annotated[str | None, typer.Option(help="File, folder or tag of the weights.")] = None,
    features: Annotated[Path | None, typer.Option(help="File of the precomputed teacher.")] = None,
    topk: Annotated[int | None, typer.Option(help="Logits kept of each token distribution (lm; default: 64).")] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data.", autocompletion=artifacts_of("data"))] = None,
    signals: Annotated[
        str | None, typer.Option(help="Signals to store, with commas (default: the teacher's own).")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Stored as bfloat16 or float32.")] = None,
    views: Annotated[
        int | None, typer.Option(help="Augmented views a picture (default: the evaluation transform).")
    ] = None,
    verify: Annotated[
        int | None, typer.Option(help="Recompute this many rows with the live teacher and compare.")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="K/N: this process's share of the shards.")] = None,
) -> dict[str, Any]:
    """What a frozen teacher says of each row, stored once.

    What depends on the student, such as the score of a diffusion model's UNet, can't be cached.
    Run it again after a kill, or on several machines at once.

    Example: mmkd cache-teacher --teacher beit2 --data coco --verify 64
    """
    table: dict[str, Any] = {}
    if teacher is not None:
        from mmkd_cli.core.references import teacher_table

        table = {f"teacher.{key}": value for key, value in teacher_table(teacher).items()}
    return {
        **table,
        **{
            k: v
            for k, v in {"teacher.arch": arch, "teacher.weights": weights, "teacher.features": features}.items()
            if v
        },
        "teacher.topk": topk,
        "data": data,
        "signals": signals.split(",") if signals else None,
        "cache.dtype": dtype,
        "cache.views": views,
        "cache.verify": verify,
    }
