"""Rows and columns of text, on a terminal as in a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TextIO

from launcher.view.text import neutral

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GAP = 3  # between two columns
_WIDTH_IN_A_FILE = 200


def console(out: TextIO) -> Console:
    """A console that prints what it is given: no markup, and lines are not broken where there is no terminal."""
    from rich.console import Console

    width = None if out.isatty() else _WIDTH_IN_A_FILE
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO, right: Collection[int] = ()) -> None:
    """Rows of text under their columns' names; `right`: columns of figures."""
    table = table_of(columns)
    for index in right:
        table.columns[index].justify = "right"
    for row in rows:
        table.add_row(*(neutral(cell) for cell in row))
    console(out).print(table)


def table_of(columns: Sequence[str], right: int = 0) -> Table:
    """An empty table; the last `right` columns are of figures."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index >= len(columns) - right else "left", overflow="fold")
    return table
