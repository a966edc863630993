"""What ``doctor()`` returns: the rows as text, as a table, as HTML and as data."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastinfer.machine.checks.check import Check, Status

__all__ = ["STYLES", "Diagnosis"]

#: Colours of the statuses, as rich and browsers name them.
STYLES: Final[dict[Status, str]] = {"ok": "green", "warn": "yellow", "fail": "red"}

_WIDTH: Final = 100
_HANGING: Final = " " * 8
_CELL: Final = "text-align:left;vertical-align:top"
_HEADINGS: Final = ("Area", "Check", "Status", "Found", "What it means", "Remedy")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The machine's readiness. ``str()`` gives text; notebooks and rich consoles show a table.

    Attributes:
        checks: the rows, those of an area together.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing failed; there may be warnings."""
        return all(check.status != "fail" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The same as dictionaries and lists, for JSON."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        """Lines of at most 100 columns, but for remedies: a command that is broken into lines cannot be copied."""
        area = ""
        for check in self.checks:
            if check.area != area:
                area = check.area
                yield area
            title = f"{check.status.upper():<5} {check.name}: {check.found}"
            yield from _wrapped(title, first="  ")
            yield from _wrapped(check.meaning, first=_HANGING)
            if check.remedy:
                yield f"{_HANGING}$ {_plain(check.remedy)}"
        yield self._summary()

    def _summary(self) -> str:
        count = {status: sum(check.status == status for check in self.checks) for status in STYLES}
        return f"{count['ok']} ok, {count['warn']} to look at, {count['fail']} failed"

    def __rich__(self) -> object:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, expand=True)
        for heading in ("Check", ""):
            table.add_column(heading, max_width=28, overflow="fold")
        table.add_column("Found, what it means, and the command that mends it", ratio=1, overflow="fold")
        area = ""
        for check in self.checks:
            if check.area != area:
                area = check.area
                table.add_section()
                table.add_row(Text(area, style="bold cyan"))
            # Text, not str: rich reads square brackets in a str as markup.
            said = Text.assemble(_plain(check.found), (f"\n{_plain(check.meaning)}", "dim"))
            if check.remedy:
                said.append(f"\n$ {_plain(check.remedy)}", style="bold")
            table.add_row(Text(_plain(check.name)), Text(check.status, style=STYLES[check.status]), said)
        return Group(table, Text(self._summary(), style="bold"))

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_CELL}">{heading}</th>' for heading in _HEADINGS)
        rows = "".join(map(_html_row, self.checks))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"{table}<p>{html.escape(self._summary())}</p>"


def _html_row(check: Check) -> str:
    remedy = f"<code>{html.escape(check.remedy)}</code>" if check.remedy else ""
    status = f'<b style="color:{STYLES[check.status]}">{check.status}</b>'
    cells = [
        *map(html.escape, (check.area, check.name)),
        status,
        *map(html.escape, (check.found, check.meaning)),
        remedy,
    ]
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>"


def _wrapped(text: str, *, first: str) -> list[str]:
    return textwrap.wrap(_plain(text), _WIDTH, initial_indent=first, subsequent_indent=_HANGING, break_on_hyphens=False)


def _plain(text: str) -> str:
    """Text without control characters: names of programs, files and variables must not steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
