"""The Typer app: every command in one list."""

from __future__ import annotations

import typer

from mmkd_cli.cli import (
    artifacts,
    cache_teacher,
    demo,
    distill,
    doctor,
    evaluate,
    finetune,
    generate,
    names,
    prepare_data,
)

app = typer.Typer(
    help="Multimodal knowledge distillation: prepare-data, cache-teacher, distill, finetune, generate, "
    "evaluate; stages meet only on disk.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for _name, _command in {
    "prepare-data": prepare_data.prepare_data,
    "cache-teacher": cache_teacher.cache_teacher,
    "distill": distill.distill,
    "finetune": finetune.finetune,
    "generate": generate.generate,
    "evaluate": evaluate.evaluate,
    "list": names.list_names,
    "ls": artifacts.ls,
    "show": artifacts.show,
    "rm": artifacts.rm,
    "doctor": doctor.doctor,
    "demo": demo.demo,
}.items():
    app.command(_name)(_command)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        from mmkd_cli import __version__

        typer.echo(__version__)
        raise typer.Exit
