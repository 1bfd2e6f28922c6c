"""Drawings as inline SVG, by matplotlib. Their colours are the page's own, so that they follow light and dark."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from mmkd_cli.reports.blocks import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import ArrayLike

MAX_POINTS = 1000
# Colours that stand for the style sheet's variables until the drawing is text.
_INK, _LINE = "#010101", "#020202"
_SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
_VARIABLES = {_INK: "var(--ink)", _LINE: "var(--line)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES, 1)
}
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "mmkd", "font.family": "sans-serif", "font.size": 10.0,
    "text.parse_math": False, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _LINE,
    "axes.titlecolor": _INK, "xtick.color": _LINE, "ytick.color": _LINE, "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK, "grid.color": _LINE, "axes.grid": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False,
    "legend.labelcolor": _INK,
}  # fmt: skip

Points = tuple[Sequence[float], Sequence[float]]
"""x and y of a line."""


def line_figure(
    lines: Mapping[str, Points], x_label: str, y_label: str, caption: str, *, log_x: bool = False
) -> Figure:
    """Lines by name over one pair of axes."""

    def draw(axes: Axes) -> None:
        for (name, (x, y)), colour in zip(lines.items(), cycle(_SERIES), strict=False):
            axes.plot(x, y, color=colour, label=name, linewidth=1.8, marker="o" if len(x) <= 12 else "", markersize=4)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        if any(lines):
            axes.legend(loc="best")

    return _figure(draw, x_label, y_label, caption)


def histogram_figure(counts: Mapping[str, Sequence[int]], edges: Sequence[float], x_label: str, caption: str) -> Figure:
    """Several histograms over the same bins, each as shares of its own total. edges: one more than the bins."""

    def draw(axes: Axes) -> None:
        for (name, values), colour in zip(counts.items(), cycle(_SERIES), strict=False):
            total = max(sum(values), 1)
            shares = [100 * value / total for value in values]
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linewidth=1.6, label=name)
        used = [i for i in range(len(edges) - 1) if any(values[i] for values in counts.values())]
        if used:
            axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
        axes.legend(loc="best")

    return _figure(draw, x_label, "share of pairs, %", caption)


def map_figure(edges: Sequence[ArrayLike], ways: Mapping[str, ArrayLike], caption: str) -> Figure:
    """A graph seen from above, and ways through it by name. edges: [2, 2] each, ways: [n, 2], x and y in metres."""
    import numpy as np

    def draw(axes: Axes) -> None:
        for x, y in (np.asarray(edge).T for edge in edges):
            axes.plot(x, y, color=_LINE, linewidth=0.7, alpha=0.5)
        for number, ((name, way), colour) in enumerate(zip(ways.items(), cycle(_SERIES), strict=False)):
            x, y = np.asarray(way).T
            axes.plot(x, y, color=colour, label=name, linewidth=5 - 3 * number, marker="o", markersize=7 - 3 * number)
        axes.set_aspect("equal", "datalim")
        axes.legend(loc="best")

    return _figure(draw, "x, m", "y, m", caption)


def thinned(x: Sequence[float], y: Sequence[float]) -> Points:
    """At most MAX_POINTS points, each the mean of as many neighbours."""
    width = -(-len(x) // MAX_POINTS)
    if width <= 1:
        return x, y
    cuts = range(0, len(x), width)
    return tuple([sum(v[i : i + width]) / len(v[i : i + width]) for i in cuts] for v in (x, y))  # type: ignore[return-value]


def _figure(draw: object, x_label: str, y_label: str, caption: str) -> Figure:
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(7.2, 3.4), layout="constrained")
        axes = canvas.add_subplot()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        draw(axes)  # type: ignore[operator]
        return Figure(_svg(canvas, caption), caption)


def _svg(canvas: Canvas, caption: str) -> str:
    """The drawing as an element to stand inside HTML: no prologue, no metadata, no namespaces (HTML knows them)."""
    text = io.StringIO()
    canvas.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text.getvalue()[text.getvalue().index("<svg") :])
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", '<svg role="img"', 1)


def _matplotlib() -> object:
    """matplotlib, its font list kept in the temporary folder rather than in the user's home."""
    if "MPLCONFIGDIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"mmkd-matplotlib-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ["MPLCONFIGDIR"] = str(folder)
    import matplotlib

    return matplotlib
