"""`mmkd demo`: the chain on the built-in world, with the tiny models that ship with mmkd."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmkd_cli.cli.options import Root

ASSETS = Path(__file__).parent.parent / "assets"


def commands() -> list[list[str]]:
    """The demo's chain, as it would be typed."""
    teacher = f"timm:local-dir:{ASSETS / 'tiny-image-teacher'}"
    return [
        ["prepare-data", "--preset", "demo", "--name", "demo-scenes"],
        ["cache-teacher", "--teacher", teacher, "--data", "demo-scenes", "--name", "demo-teacher"],
        ["distill", "--preset", "demo", "--data", "demo-scenes", "--cache", "demo-teacher", "--name", "demo-student"],
        ["evaluate", "--bench", "retrieval", "--model", "demo-student", "--split", "val", "--name", "demo-retrieval"],
    ]


def demo(
    root: Root = None,
    show: Annotated[bool, typer.Option("--show", help="Print the commands and run nothing.")] = False,
) -> None:
    """Prepare scenes, cache a tiny teacher, distil a text student, measure retrieval: in minutes, with no download.

    Example: mmkd demo
    """
    import shlex
    import sys

    from mmkd_cli.cli.app import app
    from mmkd_cli.core import artifacts, console
    from mmkd_cli.core.paths import default_root

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
        page = artifacts.locate(place, "demo-retrieval", "result") / "report.html"
        typer.echo(f"Look at the queries and what was found: {page.resolve()}")
