"""`mmkd list`: what can be named, and the keys of each name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mmkd_cli.cli.options import STAGES, Json


def _kinds(incomplete: str) -> list[str]:
    from mmkd_cli.core.registry import TABLES

    return [kind for kind in [*TABLES, "stages"] if kind.startswith(incomplete)]


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="teachers, students, methods, finetune_tasks, tasks, benches, sources, stages.", autocompletion=_kinds
        ),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One name of it: its keys, defaults and their sources.")] = None,
    json_: Json = False,
) -> None:
    """What can be named, and for one name its keys: type, default, unit, source of the default.

    Example: mmkd list teachers beit2
    """
    from mmkd_cli.core import console
    from mmkd_cli.core.registry import TABLES, table

    stages = dict.fromkeys(STAGES, "a stage: its keys")
    if kind is None:
        everything = {k: {n: e.summary for n, e in table(k).items()} for k in TABLES} | {"stages": stages}
        _print(everything, json_)
    elif name is None:
        named = stages if kind == "stages" else {n: e.summary for n, e in table(kind).items()}
        _print({kind: named}, json_)
    else:
        rows = [row._asdict() for row in _keys(kind, name)]
        if json_:
            console.emit(rows)
            return
        for row in rows:
            unit = f" {row['unit']}" if row["unit"] else ""
            typer.echo(
                f"{row['key']} ({row['type']}) = {row['default']}{unit}{'' if row['identity'] else '  [not identity]'}"
            )
            typer.echo(f"    {row['description']}{'  ' + row['source'] if row['source'] else ''}")


def _keys(kind: str, name: str) -> list[Any]:
    from importlib import import_module

    from mmkd_cli.core import config, registry
    from mmkd_cli.core.errors import UserError, nearest

    if kind == "stages":
        if name not in STAGES:
            raise UserError(f"stage {name!r} is not known{nearest(name, STAGES)}")
        return list(config.describe(import_module(STAGES[name]).Config))
    return list(config.describe(registry.load(kind, name).Config))


def _print(groups: dict[str, dict[str, str]], json_: bool) -> None:
    from mmkd_cli.core import console

    if json_:
        console.emit(groups)
        return
    for kind, named in groups.items():
        typer.echo(f"{kind}:")
        for name, summary in named.items():
            typer.echo(f"  {name:<22} {summary}")
