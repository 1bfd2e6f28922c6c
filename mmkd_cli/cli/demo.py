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
    data, val = ["--data", "demo-scenes"], ["--split", "val"]
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
    ]  # fmt: skip


RESULTS = ("retrieval", "captions", "answers")


def demo(
    root: Root = None,
    show: Annotated[bool, typer.Option("--show", help="Print the commands and run nothing.")] = False,
) -> None:
    """Scenes, a tiny teacher's cache, a text student; a tiny BART that learns to see: in minutes, with no download.

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
        write_demo_page(page, open_data(place, "demo-scenes"), "val", results)
        typer.echo(f"Look at what was found and written: {page.resolve()}")
