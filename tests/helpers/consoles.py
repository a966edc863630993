"""What a rich console shows."""

from __future__ import annotations

import io

from rich.console import Console

__all__ = ["on_console"]


def on_console(shown: object, width: int) -> str:
    """The text that a console of so many columns shows of something."""
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(shown)
    return file.getvalue()
