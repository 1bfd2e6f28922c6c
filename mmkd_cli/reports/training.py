"""The page of a training run: its curves and its configuration."""

from __future__ import annotations

import json
import re
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
_AXES = {
    "Training loss": "loss",
    "Validation loss": "loss",
    "Learning rate": "learning rate",
    "Ranks on the bench": "rank",
}


def write_run_report(run_folder: Path) -> Path:
    """Write RUN/report.html from the run's plan.json, metrics.jsonl and (if it is there) evaluations.jsonl."""
    plan = paths.read_json(run_folder / "plan.json")
    logs = [name for name in ("metrics.jsonl", "evaluations.jsonl") if (run_folder / name).is_file()]
    blocks: list[Block] = [
        Paragraph(f"Made by mmkd {plan['stage']} from " + (_inputs(plan) or "no other artifact") + "."),
        Heading("Curves"),
        *(figure for name in logs for figure in curves(run_folder / name)),
        Heading("Last values"),
        _last_values([run_folder / name for name in logs]),
        Heading("Configuration"),
        Table(["key", "value"], [[key, _shown(value)] for key, value in flatten(_config(run_folder, plan))]),
    ]
    write_page(run_folder / "report.html", f"Run {run_folder.name}", blocks)
    return run_folder / "report.html"


def curves(metrics: Path) -> list[Figure]:
    """Figures of a metrics.jsonl or evaluations.jsonl: losses, learning rate, other reports, validation, scores."""
    groups: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for line in _lines(metrics):
        for name, value in line.items():
            if name in _PLACES or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            steps, values = groups.setdefault(_group(name, "lr" in line), {}).setdefault(name, ([], []))
            steps.append(float(line["step"]))
            values.append(float(value))
    figures = []
    for title, series in groups.items():
        drawn = {name: thinned(*points) for name, points in series.items()}
        means = any(len(drawn[name][0]) < len(series[name][0]) for name in drawn)
        caption = f"{title}, by step{'; each point is the mean of its neighbours' if means else ''}."
        figures.append(line_figure(drawn, "step", _AXES.get(title, "value"), caption))
    return figures


def _group(name: str, of_a_step: bool) -> str:
    """The title of the figure that a name belongs to."""
    if name == "lr":
        return "Learning rate"
    kind = "Validation" if name.startswith("val/") else "Training" if of_a_step else "Evaluation"
    if kind == "Evaluation":
        return "Ranks on the bench" if re.search("rank|amr", name) else "Scores on the bench"
    return f"{kind} reports" if re.search("cosine|scale|norm|accuracy|share|rms", name) else f"{kind} loss"


def _last_values(logs: list[Path]) -> Table:
    last: dict[str, Any] = {}
    for line in (line for log in logs for line in _lines(log)):
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
