"""The options that every stage shares, and the way from flags to a stage's `run`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

STAGES = {
    "prepare-data": "mmkd_cli.stages.prepare_data",
    "cache-teacher": "mmkd_cli.stages.cache_teacher",
    "distill": "mmkd_cli.stages.distill",
    "finetune": "mmkd_cli.stages.finetune",
    "generate": "mmkd_cli.stages.generate",
    "evaluate": "mmkd_cli.stages.evaluate",
}
"""Stage -> module with `Config` and `run`."""


def names_of(kind: str) -> Callable[[str], list[str]]:
    """Completion: registered names of a kind."""

    def complete(incomplete: str) -> list[str]:
        from mmkd_cli.core.registry import table

        return [name for name in table(kind) if name.startswith(incomplete)]

    return complete


def artifacts_of(*kinds: str) -> Callable[[str], list[str]]:
    """Completion: artifacts of these kinds in the default root."""

    def complete(incomplete: str) -> list[str]:
        from mmkd_cli.core.paths import FOLDERS, default_root

        folders = [default_root() / FOLDERS[kind] for kind in kinds]
        found = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return sorted(name for name in found if name.startswith(incomplete))

    return complete


Root = Annotated[Path | None, typer.Option(help="Folder of all artifacts (default: MMKD_ROOT, else ./mmkd-work).")]
Json = Annotated[bool, typer.Option("--json", help="Make stdout one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no closing line.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say more on stderr.")]

_COMMON: dict[str, Any] = {
    "config": (Annotated[Path | None, typer.Option(help="A TOML file of keys (it carries stage = ...).")], None),
    "preset": (Annotated[str | None, typer.Option(help="A named config that ships with mmkd.")], None),
    "set_": (
        Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, any key of the stage; repeatable.")],
        None,
    ),
    "name": (Annotated[str | None, typer.Option(help="Name of the artifact (default: made from the request).")], None),
    "root": (Root, None),
    "device": (Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")], "auto"),
    "workers": (Annotated[int, typer.Option(help="Processes that decode pictures (0: a thread).", min=0)], 0),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Say rows, bytes, steps, time; write nothing.")], False),
    "print_config": (Annotated[bool, typer.Option("--print-config", help="Print the effective TOML and exit.")], False),
    "json_": (Json, False),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
}


def stage(name: str) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., None]]:
    """Turn a function that maps its flags to dotted keys into the stage's command, with the common options added.

    A flag that was not given is None and sets nothing. `shard`, where the function has it, goes to the context.
    """

    def decorate(flags: Callable[..., dict[str, Any]]) -> Callable[..., None]:
        own = list(inspect.signature(flags, eval_str=True).parameters.values())
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _COMMON.items()
        ]

        def command(**given: Any) -> None:
            shared = {key: given.pop(key) for key in _COMMON}
            _run(name, flags(**given), given.get("shard"), shared)

        command.__doc__ = flags.__doc__
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + common
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def set_level(quiet: bool, verbose: bool) -> None:
    from mmkd_cli.core import console

    console.LEVEL.quiet, console.LEVEL.verbose = quiet, verbose


def parse_shard(text: str) -> tuple[int, int]:
    """`K/N` to (K, N), 0 <= K < N."""
    from mmkd_cli.core.errors import UserError

    first, slash, count = text.partition("/")
    if not (slash and first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise UserError(f"--shard {text!r} is not K/N with 0 <= K < N")
    return int(first), int(count)


def _run(name: str, flags: dict[str, Any], shard: str | None, shared: dict[str, Any]) -> None:
    """Config from preset, file, --set and flags, in this order; then the stage. `shared`: the common options."""
    from importlib import import_module

    from mmkd_cli.core import config as configs
    from mmkd_cli.core import console
    from mmkd_cli.core.contracts import StageContext
    from mmkd_cli.core.paths import default_root

    set_level(shared["quiet"], shared["verbose"])
    share = parse_shard(shard) if shard else None
    module = import_module(STAGES[name])
    chosen = flags.get("method.name") or flags.get("task.name")
    layers = file_layers(name, shared["config"], shared["preset"], chosen)
    layers.append(configs.Layer("--set", configs.parse_set(shared["set_"] or [])))
    given: dict[str, Any] = {}
    for dotted, value in flags.items():
        if value is not None and value != []:
            configs.assign(given, dotted, str(value) if isinstance(value, Path) else value)
    resolved = configs.resolve(module.Config, [*layers, configs.Layer("flag", given)])
    if shared["print_config"]:
        typer.echo(configs.to_toml(resolved.config, name, resolved.origins), nl=False)
        return
    context = StageContext(
        root=shared["root"] or default_root(),
        name=shared["name"],
        device=shared["device"],
        workers=shared["workers"],
        dry_run=shared["dry_run"],
        shard=share,
    )
    document = module.run(resolved.config, context)
    if os.environ.get("RANK", "0") != "0":  # of torchrun's processes the first one speaks
        return
    if shared["json_"]:
        console.emit(document)
    elif "generated_text" in document:
        typer.echo(document["generated_text"])


def file_layers(stage_name: str, config: Path | None, preset: str | None, chosen: str | None = None) -> list[Any]:
    """Layers of a preset and of a config file; a file of another stage is the user's mistake.

    Presets of a method or a task are in a folder of its name: `sds/paper`, or `paper` where it is named, too.
    """
    from mmkd_cli.core import config as configs
    from mmkd_cli.core.errors import UserError, nearest

    layers = []
    if preset:
        folder = Path(__file__).parent.parent / "assets" / "presets" / stage_name
        known = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml")]
        preset = preset if preset in known or f"{chosen}/{preset}" not in known else f"{chosen}/{preset}"
        if preset not in known:
            raise UserError(f"preset {preset!r} of {stage_name} is not known{nearest(preset, known)}")
        layers.append(configs.Layer(f"preset {preset}", configs.read_toml(folder / f"{preset}.toml")))
    if config:
        layers.append(configs.Layer(str(config), configs.read_toml(config)))
    for layer in layers:
        said = layer.values.pop("stage", stage_name)
        if said != stage_name:
            raise UserError(
                f"config {layer.origin} is for the stage {said!r}: run `mmkd {said} --config {layer.origin}`"
            )
    return layers
