"""`mmkd demo`: the chain on the built-in world, with the tiny models that ship with mmkd."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmkd_cli.cli.options import Root

ASSETS = Path(__file__).parent.parent / "assets"


def commands() -> list[list[str]]:
    """The demo's chain, as it would be typed."""
    teacher, bart = f"timm:local-dir:{ASSETS / 'tiny-image-teacher'}", f"hf:{ASSETS / 'tiny-bart'}"
    clip, diffusion = f"local-dir:{ASSETS / 'tiny-clip'}", f"diffusers:{ASSETS / 'tiny-diffusion'}"
    data, val = ["--data", "demo-scenes"], ["--split", "val"]
    plain, cells = ["--data", "demo-plain"], ["--cache", "demo-cells"]
    writes = ["--model", "demo-seeing", *val]
    return [
        ["prepare-data", "--preset", "demo", "--name", "demo-scenes"],
        ["cache-teacher", "--teacher", teacher, *data, "--name", "demo-teacher"],
        ["distill", "--preset", "demo", *data, "--cache", "demo-teacher", "--name", "demo-student"],
        ["evaluate", "--bench", "retrieval", "--model", "demo-student", *val, "--name", "demo-retrieval"],
        ["cache-teacher", "--teacher", "run:demo-student", *data, "--name", "demo-joint"],
        ["distill", "--method", "vlkd", "--preset", "vlkd/demo", "--student", bart, *data, "--cache", "demo-joint",
         "--name", "demo-seeing"],
        ["generate", "--task", "caption", *writes, "--beams", "3", "--set", "generation.max_new_tokens=40",
         "--name", "demo-written"],
        ["evaluate", "--bench", "coco-caption", "--predictions", "demo-written", *val, "--name", "demo-captions"],
        ["generate", "--task", "vqa", *writes, "--beams", "1", "--name", "demo-said"],
        ["evaluate", "--bench", "vqav2", "--predictions", "demo-said", *val, "--name", "demo-answers"],
        ["prepare-data", "--preset", "demo", "--set", "source.plain=true", "--set", "source.train=1000", "--set",
         "source.val=100", "--set", "source.test=0", "--name", "demo-plain"],
        ["cache-teacher", "--teacher", diffusion, *plain, "--name", "demo-noise"],
        ["distill", "--method", "sds", "--preset", "sds/demo", "--student", f"open_clip:{clip}", "--teacher", diffusion,
         *plain, "--cache", "demo-noise", "--name", "demo-tuned"],
        ["evaluate", "--bench", "retrieval", "--model", "demo-tuned", *plain, *val, "--name", "demo-tuned-clip"],
        ["cache-teacher", "--teacher", "clip-grid", "--arch", clip, "--set", "teacher.grid.height=64", "--set",
         "teacher.grid.width=64", *plain, "--name", "demo-cells"],
        ["finetune", "--task", "vqa", "--preset", "demo", *plain, *cells, "--name", "demo-asked"],
        ["generate", "--task", "vqa", "--model", "demo-asked", *plain, *cells, *val, "--name", "demo-replied"],
        ["evaluate", "--bench", "vqav2", "--predictions", "demo-replied", *plain, *val, "--name", "demo-replies"],
    ]  # fmt: skip


RESULTS = {
    "retrieval": "MM-D2V2: retrieval by a text student of a vision model",
    "captions": "VLKD: captions by a BART that learnt to see",
    "answers": "VLKD: its answers, with no training on answers",
    "tuned-clip": "SDS-CLIP: retrieval by a CLIP after a few steps of score distillation, in a plainer world",
    "replies": "CLIP-ViL: answers by a head on a frozen CLIP's cells, in the plainer world",
}
"""Result -> what it shows."""


def demo(
    root: Root = None,
    show: Annotated[bool, typer.Option("--show", help="Print the commands and run nothing.")] = False,
) -> None:
    """A little of all four papers on built-in scenes, with tiny models: in minutes, with no download.

    Example: mmkd demo
    """
    import shlex
    import sys

    from mmkd_cli.cli.app import app
    from mmkd_cli.core import artifacts, console
    from mmkd_cli.core.paths import default_root
    from mmkd_cli.data.prepared import open_data
    from mmkd_cli.reports.demo import write_demo_page

    place = root or default_root()
    before = sys.argv
    for words in commands():
        line = [*words, *(["--root", str(root)] if root else [])]
        console.say(f"$ {shlex.join(['mmkd', *line])}")
        if show:
            continue
        sys.argv = ["mmkd", *line]  # what the artifact's manifest records
        try:
            app(line, prog_name="mmkd", standalone_mode=False)
        finally:
            sys.argv = before
    if not show:
        page = place / "demo.html"
        results = {name: artifacts.locate(place, f"demo-{name}", "result") for name in RESULTS}
        write_demo_page(page, open_data(place, "demo-scenes"), "val", results, RESULTS)
        typer.echo(f"Look at what was found and written: {page.resolve()}")
