"""``fastinfer doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.options import Debug, Json

__all__ = ["doctor"]


def doctor(
    network: Annotated[bool, typer.Option("--network/--no-network", help="Ask the hub whether it answers.")] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look whether this machine is ready; each row has the command that mends it. Nothing is changed.

    \b
    Examples:
      fastinfer doctor
      fastinfer doctor --no-network --json
    """
    from fastinfer.machine.doctor import doctor as diagnose

    diagnosis = diagnose(network=network)
    if json:
        output.json_line(diagnosis.to_dict())
    elif output.on_terminal():
        output.show(diagnosis)
        # The table breaks long commands into lines, which a shell would take for several.
        for check in diagnosis.checks:
            if check.remedy:
                output.line(output.clean(f"{check.name}: {check.remedy}"))
    else:
        with output.rows(()) as add:
            for check in diagnosis.checks:
                add(check.status, check.area, check.name, check.found, check.meaning, check.remedy)
    if not diagnosis.ok:
        raise typer.Exit(1)
