"""Everything the command line writes: results to stdout, remarks to stderr.

A terminal gets tables, anything else gets plain lines that are never shortened, their cells separated by tabs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Column", "clean", "error", "json_line", "line", "note", "on_terminal", "report", "rows", "show", "text"]


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column.

    Attributes:
        heading: its title on a terminal.
        justify: where its cells stand.
        style: colour or weight, as rich names them.
        optional: left out on a terminal while every cell is empty.
    """

    heading: str
    justify: Literal["left", "right"] = "left"
    style: str = ""
    optional: bool = False


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def clean(text: object) -> str:
    """Text without control characters: names of files and labels must not steer a terminal, or split a line."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def line(text: str = "") -> None:
    """One line to stdout, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def json_line(value: object) -> None:
    """One line of JSON to stdout, at once. In ASCII, so that every encoding and file name can be written."""
    line(json.dumps(value, ensure_ascii=True, allow_nan=False))


def text(piece: str, *, dim: bool = False) -> None:
    """A piece of text to stdout, at once; a terminal gets it without control characters, which could steer it.

    Args:
        piece: may be part of a line, or several lines.
        dim: in a weaker colour, where the terminal has one.
    """
    if on_terminal():
        piece = "".join(c for c in piece if c in "\n\t" or not (c < " " or "\x7f" <= c <= "\x9f"))
        if dim and _has_styles():
            piece = f"\x1b[2m{piece}\x1b[22m"
    sys.stdout.write(piece)
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def error(text: str) -> None:
    """An error to stderr, on one line."""
    note(f"error: {' '.join(text.split())}")


def show(shown: object) -> None:
    """Anything that rich can show, to a terminal."""
    from rich.console import Console

    Console(file=sys.stdout, highlight=False).print(shown)


def report(result: Any, *, as_json: bool) -> None:
    """A result that has its own ways to be seen: JSON where that was asked for, a table on a terminal, else text.

    Args:
        result: has ``to_dict()``, and is known to rich.
        as_json: whether it was.
    """
    if as_json:
        json_line(result.to_dict())
    elif on_terminal():
        show(result)
    else:
        line(str(result))


@contextmanager
def rows(columns: Sequence[Column]) -> Iterator[Callable[..., None]]:
    """Gives a function that takes a row's cells; a cell of several lines is a tuple of them.

    On a terminal the table appears at the end, also if the end is an exception: what was done by then is shown.
    Elsewhere each row is written as it comes, without headings.
    """
    if not on_terminal():
        yield lambda *cells: line("\t".join(_text(cell, " ") for cell in cells))
        return
    done: list[tuple[str, ...]] = []
    try:
        yield lambda *cells: done.append(tuple(_text(cell, "\n") for cell in cells))
    finally:
        if done:
            _table(columns, done)


def _has_styles() -> bool:
    from rich.console import Console

    console = Console(file=sys.stdout)
    return not console.is_dumb_terminal and not console.legacy_windows


def _text(cell: str | tuple[str, ...], between: str) -> str:
    return between.join(map(clean, (cell,) if isinstance(cell, str) else cell))


def _table(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    """A table to a terminal; cells that are too wide are wrapped, never cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [i for i, column in enumerate(columns) if not column.optional or any(row[i] for row in cells)]
    grid = Table(box=box.SIMPLE_HEAD)
    for i in shown:
        column = columns[i]
        grid.add_column(column.heading, justify=column.justify, style=column.style, overflow="fold")
    for row in cells:
        # Text, not str: rich reads square brackets in a str as markup.
        grid.add_row(*(Text(row[i]) for i in shown))
    show(grid)
