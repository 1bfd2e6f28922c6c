"""Tables for the terminal, on stderr."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from mmkd_cli.core import console
from mmkd_cli.reports.blocks import Table
from mmkd_cli.reports.page import shown

_FILE_COLUMNS = 120
"""Width where stderr is a file and has none of its own."""


def print_table(table: Table) -> None:
    """Print a table of blocks.py, unless --quiet. A paper's rows are set in italics."""
    if console.LEVEL.quiet:
        return
    drawn = RichTable(title=escape(table.caption) or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column, name in enumerate(table.columns):
        numeric = any(isinstance(row[column], (int, float)) for row in table.rows)
        drawn.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for number, row in enumerate(table.rows):
        style = "italic dim" if number in table.quoted else None
        drawn.add_row(*(escape(shown(value)) for value in row), style=style)
    out = console.stderr()
    if not out.is_terminal:
        out.width = _FILE_COLUMNS
    out.print(drawn)
