"""`mmkd evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import artifacts_of, names_of, stage


@stage("evaluate")
def evaluate(
    bench: Annotated[str | None, typer.Option(help="What to score.", autocompletion=names_of("benches"))] = None,
    model: Annotated[
        str | None, typer.Option(help="RUN, open_clip:ARCH:FILE or hf:FOLDER.", autocompletion=artifacts_of("run"))
    ] = None,
    image_model: Annotated[str | None, typer.Option(help="Image half of a model.")] = None,
    text_model: Annotated[str | None, typer.Option(help="Text half of a model.")] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data.", autocompletion=artifacts_of("data"))] = None,
    cache: Annotated[
        str | None, typer.Option(help="Cached teacher signals.", autocompletion=artifacts_of("cache"))
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Where the weights of the run's teacher are now, if they were moved.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test (default: test where there is one).")] = None,
    layer: Annotated[str | None, typer.Option(help="Output to measure: encoder, projection, shared.")] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="The bench's own files: a folder or a file, of references where texts are scored."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The bench's pictures (also of a set that zeroshot-classification names).")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="cosine, or diffusion: by how well --model diffusers:FOLDER denoises.")
    ] = None,
    draws: Annotated[int | None, typer.Option(help="Time steps and noises of --scorer diffusion.")] = None,
    questions: Annotated[Path | None, typer.Option(help="The bench's questions (vqav2, okvqa).")] = None,
    connectivity: Annotated[Path | None, typer.Option(help="Folder of the houses' graphs (r2r, rxr).")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Score ready embeddings: npz or safetensors.")] = None,
    predictions: Annotated[
        str | None, typer.Option(help="Score a result file in the bench's own layout, or a result of generate.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare with another result, item by item.", autocompletion=artifacts_of("result")),
    ] = None,
) -> dict[str, Any]:
    """Scores by the official rules, with intervals, and a page to look at.

    Data and cache default to the run's own.

    Example: mmkd evaluate --bench flickr8k-retrieval --model text-to-cnn --split val --json
    """
    return {
        "bench.name": bench,
        "model": model,
        "image_model": image_model,
        "text_model": text_model,
        "data": data,
        "cache": cache,
        "teacher_weights": weights,
        "split": split,
        "layer": layer,
        "bench.annotations": annotations,
        "bench.images": images,
        "bench.scorer": scorer,
        "bench.draws": draws,
        "bench.questions": questions,
        "bench.connectivity": connectivity,
        "embeddings": embeddings,
        "predictions": predictions,
        "against": against,
    }
