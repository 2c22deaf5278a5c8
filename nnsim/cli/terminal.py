"""What commands print: nothing from a file can rule the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from nnsim.errors import printable


def say(text: object, *, err: bool = False) -> None:
    """Print a text; control characters in it are shown, not obeyed."""
    click.echo(printable(text, keep="\n"), err=err)


def cell(text: object) -> str:
    """A text for a table of rich, which would obey its own marks for colours and links too."""
    from rich.markup import escape

    return escape(printable(text))


def print_table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of numbers."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=cell(title), title_justify="left")
    for name in names:
        shown.add_column(cell(name), justify="right")
    for row in rows:
        shown.add_row(*map(cell, row))
    Console(emoji=False).print(shown)
