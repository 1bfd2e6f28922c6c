"""`mmkd generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import artifacts_of, names_of, stage


@stage("generate")
def generate(
    task: Annotated[str | None, typer.Option(help="What to write.", autocompletion=names_of("tasks"))] = None,
    model: Annotated[
        str | None,
        typer.Option(help="RUN, or hf:FOLDER of a language model (task text).", autocompletion=artifacts_of("run")),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data.", autocompletion=artifacts_of("data"))] = None,
    cache: Annotated[
        str | None, typer.Option(help="Cached teacher signals.", autocompletion=artifacts_of("cache"))
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Where the weights of the run's teacher are now, if they were moved.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test (default: test where there is one).")] = None,
    image: Annotated[Path | None, typer.Option(help="One picture, in place of data: its text is printed.")] = None,
    question: Annotated[str | None, typer.Option(help="What is asked about --image (vqa).")] = None,
    questions: Annotated[Path | None, typer.Option(help="VQA v2's questions file, of the data's pictures.")] = None,
    prompt: Annotated[str | None, typer.Option(help="One text, in place of data (text).")] = None,
    beams: Annotated[int | None, typer.Option(help="Beams of the search; 1: greedy.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts that are written at once.")] = None,
    allow_rejected: Annotated[
        bool | None, typer.Option("--allow-rejected", help="Leave rejected rows out, and go on.")
    ] = None,
) -> dict[str, Any]:
    """Captions, answers and texts, in official result files, with a page to look at.

    Data and cache default to the run's own. Run it again after a kill: it goes on where it stopped. The result is
    scored by `mmkd evaluate --predictions NAME`.

    Example: mmkd generate --task caption --model seeing-bart --split test --name captions
    """
    return {
        "task.name": task,
        "model": model,
        "data": data,
        "cache": cache,
        "teacher_weights": weights,
        "split": split,
        "image": image,
        "question": question,
        "task.questions": questions,
        "prompt": prompt,
        "generation.num_beams": beams,
        "batch_size": batch_size,
        "allow_rejected": allow_rejected,
    }
