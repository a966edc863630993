"""What the commands that can be jobs do alike: their options, the closing summary, and what Ctrl-C leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fastinfer.cli import output as written
from fastinfer.cli.entry import INTERRUPTED
from fastinfer.cli.options import as_typed

if TYPE_CHECKING:
    from fastinfer.jobs import JobSummary

__all__ = ["Limit", "OutputFile", "Overwrite", "RetryErrors", "ShardOfJob", "check_job_options", "run_job"]

_PANEL = "Jobs"

OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write one file of results, in runs that may be interrupted and repeated.",
        rich_help_panel=_PANEL,
    ),
]
RetryErrors = Annotated[
    bool, typer.Option("--retry-errors", help="Compute again what has failed before.", rich_help_panel=_PANEL)
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="The first N only.", rich_help_panel=_PANEL)
]


def _check_shard(shard: str | None) -> str | None:
    if shard is None:
        return None
    from fastinfer.errors import FastInferError
    from fastinfer.jobs.output import Shard

    try:
        Shard.of(shard)
    except FastInferError as error:
        raise typer.BadParameter(str(error)) from error
    return shard


ShardOfJob = Annotated[
    str | None,
    typer.Option(
        "--shard",
        callback=_check_shard,
        metavar="I/N",
        help="Part I of N, for a process each; its number goes into the output's name.",
        rich_help_panel=_PANEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an output that was made by other settings.", rich_help_panel=_PANEL),
]


def check_job_options(context: typer.Context, *names: str) -> None:
    """Refuse options that are for jobs alone in a command without an output.

    Args:
        context: of the command, which has no ``--output``.
        *names: the parameters of these options.

    Raises:
        typer.BadParameter: one of them was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{parameter.opts[0]} is for jobs: give --output FILE too.")


def run_job(context: typer.Context, job: Callable[[], JobSummary], *, what: str, as_json: bool) -> None:
    """Run a job and say how it went: a summary on stderr, or a line of JSON on stdout.

    Args:
        context: of the command.
        job: runs it.
        what: what happened to the items, ``"classified"`` for example.
        as_json: JSON was asked for.

    Raises:
        typer.Exit: with 1 where a row has an error, with 130 where it was interrupted.
    """
    try:
        summary = job()
    except KeyboardInterrupt as interrupt:
        written.note(f"Interrupted. What is done is kept; to go on: {as_typed(context)}")
        raise typer.Exit(INTERRUPTED) from interrupt
    if as_json:
        written.json_line(summary.to_dict())
    else:
        written.note(str(summary))
    if not summary.ok:
        written.error(f"{summary.errors} of {summary.total} {summary.unit}s could not be {what}.")
        raise typer.Exit(1)
