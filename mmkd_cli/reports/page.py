"""Pages: one HTML file each, complete in itself; no request leaves it, and every string in it is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2

from mmkd_cli.core import paths
from mmkd_cli.reports.blocks import Block, Cell

TEMPLATES = Path(__file__).parent.parent / "assets" / "templates"


def write_page(path: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write a page in one piece. The page forbids its browser any request but for the pictures it carries."""
    paths.write_atomic(path, render(title, blocks))


def render(title: str, blocks: Sequence[Block]) -> str:
    """The page's HTML."""
    return _environment().get_template("page.html").render(title=title, blocks=blocks)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = shown
    environment.tests["number_cell"] = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    return environment


def shown(value: Cell) -> str:
    """A table's cell as text: numbers with thousands marked, to two places, below one to four if they need them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) < 1 and value != round(value, 2):
            return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.3g}"
        return f"{value:,.2f}"
    return value
