"""`mmkd prepare-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import names_of, stage


@stage("prepare-data")
def prepare_data(
    source: Annotated[str | None, typer.Option(help="What to read.", autocompletion=names_of("sources"))] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of pictures.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="The official annotations, or a table of pairs.")] = None,
    questions: Annotated[Path | None, typer.Option(help="VQA's questions: a file or a folder of them.")] = None,
    connectivity: Annotated[Path | None, typer.Option(help="Folder of houses' graphs (r2r, rxr).")] = None,
    train_splits: Annotated[str | None, typer.Option(help="Splits that count as train: train,restval.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Short side to store, pixels (0: the original bytes).")] = None,
    decode: Annotated[str | None, typer.Option(help="exact, or draft: JPEG's own scaling, faster, 1/255 off.")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Refuse larger pictures before decoding.")] = None,
    skip_bad: Annotated[
        bool | None,
        typer.Option("--skip-bad", help="Reject unusable pictures and rows, and empty captions, and go on."),
    ] = None,
) -> dict[str, Any]:
    """Pictures, texts and labels from their official files to Arrow tables.

    Example: mmkd prepare-data --source image-text --annotations pairs.csv --images photos --name mine
    """
    return {
        "source.name": source,
        "source.images": images,
        "source.annotations": annotations,
        "source.questions": questions,
        "source.connectivity": connectivity,
        "source.train_splits": train_splits.split(",") if train_splits else None,
        "image_size": image_size,
        "decode": decode,
        "max_pixels": max_pixels,
        "skip_bad": skip_bad,
    }
