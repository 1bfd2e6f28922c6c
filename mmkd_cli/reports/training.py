"""The page of a training run: its curves and its configuration."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmkd_cli.core import paths
from mmkd_cli.core.config import flatten
from mmkd_cli.core.errors import Refused
from mmkd_cli.reports.blocks import Block, Figure, Heading, Paragraph, Table
from mmkd_cli.reports.page import write_page
from mmkd_cli.reports.plots import line_figure, thinned

_PLACES = ("step", "epoch")


def write_run_report(run_folder: Path) -> Path:
    """Write RUN/report.html from the run's metrics.jsonl and plan.json, and return its path."""
    plan = paths.read_json(run_folder / "plan.json")
    blocks: list[Block] = [
        Paragraph(f"Made by mmkd {plan['stage']} from " + (_inputs(plan) or "no other artifact") + "."),
        Heading("Curves"),
        *curves(run_folder / "metrics.jsonl"),
        Heading("Last values"),
        _last_values(run_folder / "metrics.jsonl"),
        Heading("Configuration"),
        Table(["key", "value"], [[key, _shown(value)] for key, value in flatten(_config(run_folder, plan))]),
    ]
    write_page(run_folder / "report.html", f"Run {run_folder.name}", blocks)
    return run_folder / "report.html"


def curves(metrics: Path) -> list[Figure]:
    """Figures of a metrics.jsonl: training losses, learning rate, then each group of names `GROUP/NAME`."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for line in _lines(metrics):
        for name, value in line.items():
            if name not in _PLACES and isinstance(value, (int, float)) and not isinstance(value, bool):
                steps, values = series.setdefault(name, ([], []))
                steps.append(float(line["step"]))
                values.append(float(value))
    groups: dict[str, list[str]] = {}
    for name in series:
        if name == "loss" or (name.endswith("_loss") and "/" not in name):
            groups.setdefault("Training loss", []).append(name)
        elif name == "lr":
            groups["Learning rate"] = [name]
        elif "/" in name:
            group = name.partition("/")[0]
            groups.setdefault("Validation" if group == "val" else group, []).append(name)
    return [
        line_figure(
            {name: thinned(*series[name]) for name in names}, "step", _unit(names), _caption(title, series[names[0]][0])
        )
        for title, names in groups.items()
    ]


def _caption(title: str, steps: list[float]) -> str:
    several = len(steps) - len(thinned(steps, steps)[0])
    return f"{title}, by step{'; each point is the mean of its neighbours' if several else ''}."


def _unit(names: list[str]) -> str:
    if names == ["lr"]:
        return "learning rate"
    return "loss" if all(name.endswith("loss") for name in names) else "value"


def _last_values(metrics: Path) -> Table:
    last: dict[str, Any] = {}
    for line in _lines(metrics):
        last |= {name: (value, line["step"]) for name, value in line.items() if name not in _PLACES}
    rows = [
        [name, value if isinstance(value, (int, float)) else str(value), step] for name, (value, step) in last.items()
    ]
    return Table(["name", "value", "at step"], rows)


def _lines(metrics: Path) -> Iterator[dict[str, Any]]:
    with open(metrics, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
                line["step"]
            except (json.JSONDecodeError, TypeError, KeyError):
                raise Refused(
                    f"{metrics} line {number} is no line of metrics: run the `mmkd distill` command again"
                ) from None
            yield line


def _inputs(plan: dict[str, Any]) -> str:
    return ", ".join(f"{i['kind']} {i['name']} ({i['fingerprint'][:12]})" for i in plan["inputs"])


def _config(run_folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """What config.toml says; of a run without one, what its plan says."""
    file = run_folder / "config.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else dict(plan["config"])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
