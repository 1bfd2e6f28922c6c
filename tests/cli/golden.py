"""Print the whole command line: every command, flag and default."""

from __future__ import annotations

from typer.main import get_command

from mmkd_cli.cli.app import app


def lines() -> list[str]:
    found = []
    for name, command in sorted(get_command(app).commands.items()):
        found.append(name)
        for parameter in command.params:
            default = "" if parameter.default is None or callable(parameter.default) else f" = {parameter.default}"
            found.append(f"  {' '.join(parameter.opts)}{' ...' if parameter.multiple else ''}{default}".rstrip())
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
