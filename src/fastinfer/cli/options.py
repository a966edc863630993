"""Options that several commands have."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated, Any

import typer

__all__ = ["Debug", "Json", "Labels", "LabelsFile", "PresetKind", "wants_traceback"]

_KEY = "fastinfer.debug"


class PresetKind(str, Enum):
    """The kinds of presets."""

    classify = "classify"
    chat = "chat"


def _remember(context: typer.Context, asked: bool) -> bool:
    # Shared by a command and its group, which is where errors end up.
    context.meta[_KEY] = asked
    return asked


def wants_traceback(context: Any) -> bool:
    """Whether errors are to be shown with their traceback."""
    return bool(context.meta.get(_KEY)) or os.environ.get("FASTINFER_TRACEBACK", "") not in ("", "0")


Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="A,B", help="Labels to choose from, separated by commas."),
]
LabelsFile = Annotated[str | None, typer.Option(metavar="FILE", help="Labels to choose from, one a line, in UTF-8.")]
Debug = Annotated[
    bool,
    typer.Option("--debug", callback=_remember, help="Show the traceback of errors; so does FASTINFER_TRACEBACK=1."),
]
