"""Options that several commands have."""

from __future__ import annotations

import os
import shlex
from enum import Enum
from typing import Annotated, Any

import typer

__all__ = ["Debug", "Isolate", "Json", "Labels", "LabelsFile", "PresetKind", "as_typed", "wants_traceback"]

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


def as_typed(context: typer.Context) -> str:
    """The command with what was given to it, for a shell; options that were left out are left out."""
    words = ["fastinfer", context.command.name or ""]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name or ""]
        option = [] if parameter.param_type_name == "argument" else parameter.opts[:1]
        if isinstance(value, bool):
            words += option
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            words += [*option, str(each.value if isinstance(each, Enum) else each)]
    return shlex.join(words)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="A,B", help="Labels to choose from, separated by commas."),
]
LabelsFile = Annotated[str | None, typer.Option(metavar="FILE", help="Labels to choose from, one a line, in UTF-8.")]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Run the engine in a process of its own, which is started again where it dies.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", callback=_remember, help="Show the traceback of errors; so does FASTINFER_TRACEBACK=1."),
]
