"""A short report as text, as a table for rich, and as HTML for a notebook: one content, three ways to see it."""

from __future__ import annotations

import html
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Report", "Section", "Shown"]

_WIDTH: Final = 100
_GAP: Final = "  "
_CELL: Final = "text-align:left;vertical-align:top"


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a heading.

    Attributes:
        heading: what they are.
        lines: a sentence or an item each.
    """

    heading: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Report:
    """A table with what is said before and after it.

    Attributes:
        title: one line.
        before: sentences above the table.
        headings: of the columns.
        rows: cells as text, as many in each as there are headings.
        sections: what stands below the table; those without lines are left out.
    """

    title: str
    before: Sequence[str]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    sections: Sequence[Section] = ()

    def as_text(self) -> str:
        """Plain text; the table is as wide as its cells, all else at most 100 columns."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from textwrap.wrap(self.title, _WIDTH)
        for sentence in self.before:
            yield from textwrap.wrap(sentence, _WIDTH, subsequent_indent=_GAP)
        if self.rows:
            yield ""
            table = [self.headings, *self.rows]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            for row in table:
                yield _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for section in self._shown():
            yield ""
            yield section.heading
            for line in section.lines:
                yield from textwrap.wrap(
                    line, _WIDTH, initial_indent=_GAP, subsequent_indent=2 * _GAP, break_on_hyphens=False
                )

    def as_html(self, *, picture: str = "") -> str:
        """HTML for a notebook, every text escaped.

        Args:
            picture: base64 of a PNG file to show at the end; none where it is empty.
        """
        head = "".join(f'<th style="{_CELL}">{html.escape(heading)}</th>' for heading in self.headings)
        rows = "".join(
            "<tr>" + "".join(f'<td style="{_CELL}">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if self.rows else ""
        lists = "".join(
            f"<p><b>{html.escape(section.heading)}</b></p>"
            f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in section.lines)}</ul>"
            for section in self._shown()
        )
        before = "<br>".join([f"<b>{html.escape(self.title)}</b>", *map(html.escape, self.before)])
        shown = f'<img src="data:image/png;base64,{picture}">' if picture else ""
        return f"<p>{before}</p>{table}{lists}{shown}"

    def as_rich(self) -> object:
        """What a rich console shows."""
        from rich import box
        from rich.console import Group, RenderableType
        from rich.table import Table
        from rich.text import Text

        # Text, not str: rich reads square brackets in a str as markup.
        parts: list[RenderableType] = [Text(self.title, style="bold"), *map(Text, self.before)]
        if self.rows:
            table = Table(box=box.SIMPLE_HEAD)
            for place, heading in enumerate(self.headings):
                table.add_column(heading, style="bold" if place == 0 else "", overflow="fold")
            for row in self.rows:
                table.add_row(*map(Text, row))
            parts.append(table)
        for section in self._shown():
            parts.append(Text(section.heading, style="bold"))
            parts += [Text(f"{_GAP}{line}") for line in section.lines]
        return Group(*parts)

    def _shown(self) -> list[Section]:
        return [section for section in self.sections if section.lines]


class Shown(ABC):
    """What has a report: ``str()`` gives it as text, and notebooks and rich consoles show it as a table.

    It has no state, so that a class with slots may have it as a base, and a dataclass keeps its own ``repr()``.
    """

    __slots__ = ()

    @abstractmethod
    def _report(self) -> Report:
        """What is shown."""

    def _picture(self) -> str:
        """Base64 of a PNG file that a notebook shows below it; empty for none."""
        return ""

    def __str__(self) -> str:
        return self._report().as_text()

    def __rich__(self) -> object:
        return self._report().as_rich()

    def _repr_html_(self) -> str:
        return self._report().as_html(picture=self._picture())
