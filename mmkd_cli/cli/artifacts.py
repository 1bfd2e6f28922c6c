"""`mmkd ls`, `mmkd show`, `mmkd rm`: the artifacts of the root."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import Json, Root, artifacts_of

_PIPED_WIDTH = 10_000
"""Columns where no terminal says how many it has."""


def ls(root: Root = None, json_: Json = False) -> None:
    """The artifacts of the root: kind, size, status, inputs.

    Example: mmkd ls
    """
    from mmkd_cli.core import artifacts, console, lineage
    from mmkd_cli.core.paths import default_root

    rows = [lineage.summary(artifact) for artifact in artifacts.every(root or default_root())]
    if json_:
        console.emit(rows)
        return
    if not rows:
        console.say(f"{root or default_root()} holds no artifacts yet: begin with `mmkd prepare-data`")
        return
    _table(
        ("kind", "name", "status", "rows", "size", "made from"),
        [
            (
                r["kind"],
                r["name"],
                r["status"],
                f"{r['rows']:,}" if r["rows"] is not None else "",
                size(r["bytes"]),
                ", ".join(r["inputs"]),
            )
            for r in rows
        ],
    )


def show(
    path: Annotated[
        str,
        typer.Argument(
            help="An artifact's name or path, or a config file.",
            autocompletion=artifacts_of("data", "cache", "run", "result"),
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Read every byte against its hash; exit 3 if one differs.")
    ] = False,
    chain: Annotated[bool, typer.Option("--chain", help="Print the commands that make it again.")] = False,
    root: Root = None,
    json_: Json = False,
) -> None:
    """What an artifact is and where it came from, or what a config would build.

    Example: mmkd show text-to-cnn --chain
    """
    from mmkd_cli.core import artifacts, console, lineage
    from mmkd_cli.core.errors import Refused
    from mmkd_cli.core.paths import default_root

    place = root or default_root()
    if path.endswith(".toml") and Path(path).is_file():
        _show_config(Path(path), json_)
        return
    artifact = artifacts.read(artifacts.locate(place, path))
    if chain:
        commands = lineage.chain(place, artifact)
        if json_:
            console.emit(commands)
        else:
            typer.echo("\n".join(commands))
        return
    document = lineage.describe(place, artifact)
    if check:
        artifact.fingerprint  # noqa: B018  (refuses what is unfinished)
        document["damage"] = artifact.check()
    if json_:
        console.emit(document)
    else:
        typer.echo(lineage.text(document))
    if check:
        for file, what in document["damage"].items():
            raise Refused(
                f"{artifact.label} is damaged: {file}: {what} ({len(document['damage'])} files in all): "
                f"run its `mmkd {artifact.plan['stage']}` command again"
            )
        console.say(f"{artifact.label}: {len(artifact.files)} files read, every byte as written")


def _show_config(path: Path, json_: bool) -> None:
    from importlib import import_module

    from mmkd_cli.cli.options import STAGES, file_layers
    from mmkd_cli.core import config as configs
    from mmkd_cli.core import console
    from mmkd_cli.core.errors import UserError, nearest

    stage = configs.read_toml(path).get("stage")
    if stage not in STAGES:
        raise UserError(
            f'config {path}: stage {stage!r} is not known{nearest(str(stage), STAGES)}: begin it with stage = "distill"'
        )
    module = import_module(STAGES[stage])
    resolved = configs.resolve(module.Config, file_layers(stage, path, None))
    built = module.describe(resolved.config) if hasattr(module, "describe") else {}
    document: dict[str, Any] = {"stage": stage, "config": resolved.config.model_dump(mode="json"), **built}
    if json_:
        console.emit(document)
        return
    typer.echo(configs.to_toml(resolved.config, stage, resolved.origins))
    if built:
        counts = built["parameters"]
        teacher = f"{built['teacher_parameters']:,}"
        typer.echo(f"parameters: {counts['total']:,} in all, {counts['trainable']:,} trained; teacher {teacher}")
        for name, part in built.get("parts", {}).items():
            typer.echo(f"of these {name}: {part['total']:,} in all, {part['trainable']:,} trained")


def rm(
    name: Annotated[
        str,
        typer.Argument(
            help="An artifact's name or path.", autocompletion=artifacts_of("data", "cache", "run", "result")
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Even if another artifact was made from it.")] = False,
    root: Root = None,
) -> None:
    """Remove an artifact that no other one needs.

    Example: mmkd rm runs/text-to-cnn
    """
    from mmkd_cli.core import artifacts, console, lineage
    from mmkd_cli.core.paths import default_root

    place = root or default_root()
    artifact = artifacts.read(artifacts.locate(place, name))
    lineage.remove(place, artifact, force)
    console.say(f"removed {artifact.label}")


def size(count: int) -> str:
    """Bytes for people: 1.5 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:  # names are there to be copied: they are never cut, others may go on below
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(highlight=False, markup=False, width=width).print(table)
