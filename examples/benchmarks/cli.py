"""The command line's start: `mmkd --help` against `python -c "import typer"`, which it can't do without.

    python examples/benchmarks/cli.py [--quick]

Whole processes of this Python, in turn, by the clock and by CPU time; medians, and the median of the rounds' ratios.
The table goes to stderr, one JSON document to stdout. `--quick`: five rounds in place of eleven.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

WAYS = {"help": ("-m", "mmkd_cli", "--help"), "import_typer": ("-c", "import typer")}
TARGETS = {"help_vs_import_typer": "<= 4"}


def seconds(words: tuple[str, ...]) -> tuple[float, float]:
    """Of one process: by the clock, and of CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five rounds in place of eleven")
    rounds = 5 if parser.parse_args().quick else 11
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for round_ in range(rounds + 1):  # the first one fills the page cache
        for name, words in WAYS.items():
            taken = seconds(words)
            if round_:
                measured[name].append(taken)
    found: dict[str, float] = {}
    for place, end in enumerate(("", "_cpu")):
        for name, values in measured.items():
            found[f"{name}{end}_s"] = statistics.median(value[place] for value in values)
        ratios = [a[place] / b[place] for a, b in zip(measured["help"], measured["import_typer"], strict=True)]
        found[f"help_vs_import_typer{end}"] = statistics.median(ratios)
    for row, value in found.items():
        print(f"{row:<32}{value:>10,.3f}   {TARGETS.get(row, '')}", file=sys.stderr)
    print(json.dumps({"rounds": rounds, "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
