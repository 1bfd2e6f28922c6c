"""Processes that begin with the libraries imported: forked from one that has them, a command line each.

Importing torch, transformers and open_clip takes longer than most commands of tests do. `Warm` starts the process that
is forked; `python -S warm.py SOCKET -m mmkd_cli ARGS` and `python -S warm.py SOCKET SCRIPT ARGS` run what `python -m
mmkd_cli ARGS` and `python SCRIPT ARGS` would, in the caller's folder and environment, with its input and outputs and
the same exit code. What libraries read from the environment on import is the server's.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = (
    "torch",
    "transformers",
    "datasets",
    "open_clip",
    "timm",
    "diffusers",
    "sklearn.metrics",
    "mmkd_cli.cli.app",
)
"""And all stages, and what transformers only imports when it is asked for."""


def ask(place: str, words: Sequence[str], cwd: str, env: Mapping[str, str], streams: Sequence[int]) -> int:
    """The exit code. streams: descriptors of input, output and error."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        message = json.dumps({"words": [*words], "cwd": cwd, "env": {**env}}).encode()
        socket.send_fds(server, [len(message).to_bytes(8, "big")], [*streams])
        server.sendall(message)
        return int(server.makefile("rb").readline())


def _serve(place: str) -> None:
    """Until input ends, which is when the tests' process has ended."""
    import importlib
    import select
    import signal
    import threading

    sys.path[0] = str(Path(__file__).parents[1])  # in the place of this file's folder
    for name in IMPORTED:
        importlib.import_module(name)
    import mmkd_cli.stages

    for file in sorted(Path(mmkd_cli.stages.__path__[0]).glob("*.py")):
        importlib.import_module(f"mmkd_cli.stages.{file.stem}")
    from transformers import AutoModel, AutoTokenizer, BartForConditionalGeneration, BertForPreTraining  # noqa: F401

    assert threading.active_count() == 1, "a thread would not live on in a fork"
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen(64)
        print("ready", flush=True)
        waiting: dict[int, socket.socket] = {}
        while True:
            heard, _, _ = select.select([server, sys.stdin], [], [], 0.02 if waiting else None)
            if sys.stdin in heard:
                return
            if server in heard:
                client, _ = server.accept()
                child = os.fork()
                if not child:
                    for other in (server, *waiting.values()):
                        other.close()
                    _run(client)
                waiting[child] = client
            for child in [*waiting]:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    with waiting.pop(child) as client:
                        code = os.waitstatus_to_exitcode(status)
                        client.sendall(b"%d\n" % (code if code >= 0 else 128 - code))  # as a shell says signals


def _run(client: socket.socket) -> None:
    """In the child: be the process that was asked for."""
    import atexit
    import runpy
    import traceback

    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    stream = client.makefile("rb")
    asked: dict[str, Any] = json.loads(stream.read(int.from_bytes(head, "big")))
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    words, code = asked["words"], 0
    sys.path[0] = asked["cwd"] if words[0] == "-m" else str(Path(words[0]).resolve().parent)
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(int(code or 0))


class Warm:
    """The process that has imported everything, started when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.place = str(folder / "warm")
        self._server: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """The socket."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__, self.place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            assert self._server.stdout is not None and self._server.stdout.readline() == "ready\n"
        return self.place

    def stop(self) -> None:
        if self._server is not None:
            self._server.communicate()

    def commands(self, folder: Path) -> None:
        """Files `mmkd` and `python` in a folder for PATH, which run in warm processes."""
        folder.mkdir(exist_ok=True)
        for name, words in {"mmkd": " -m mmkd_cli", "python": ""}.items():
            (folder / name).write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" "{self.start()}"{words} "$@"\n'
            )
            (folder / name).chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _serve(sys.argv[1])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:], os.getcwd(), os.environ, (0, 1, 2)))
