"""`mmkd` and `python -m mmkd_cli`: run the app, turn failures into one line and an exit code."""

from __future__ import annotations

import os
import sys

_SPINS = "1000"
"""How often a thread of torch's looks for new work before it sleeps: what libgomp takes where it has more threads than
cores. It can't see other programs, and its usual 300,000 keep cores busy with nothing that these programs need: beside
two of them captions were embedded at 18 to 31 a second, and at 395 to 512 with this."""


def main() -> None:
    """Exit codes: 0 done, 1 our failure, 2 the user's mistake, 3 refused, 130 interrupted."""
    if "OMP_WAIT_POLICY" not in os.environ:  # libgomp reads both when torch is imported
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    from mmkd_cli.cli.app import app
    from mmkd_cli.core.errors import MmkdError

    try:
        code = app(prog_name="mmkd", standalone_mode=False)
    except MmkdError as error:
        print(f"mmkd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a usage error of the option parser
            context = getattr(error, "ctx", None)
            where = context.command_path if context else "mmkd"
            print(f"{where}: {error.format_message()} (see `{where} --help`)", file=sys.stderr)
            sys.exit(error.exit_code)
        print("mmkd: this is a failure of mmkd: please report it with what follows and the command", file=sys.stderr)
        raise
    if code == 130:  # typer makes this code of Ctrl-C
        print("mmkd: interrupted: the same command goes on where it stopped", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
