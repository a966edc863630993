"""``fastinfer report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.options import Debug, Json

__all__ = ["report"]


def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="A results file: .parquet, .jsonl or .csv.", show_default=False)
    ],
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|folders",
            help="The right labels: a .csv, .jsonl or .parquet file with columns path and label, or the word folders, "
            "where the folders that the images are in are their labels.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder that the results' paths are in, to show images.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Write the report as one HTML file.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What stands above the report.")] = None,
    confidence: Annotated[float, typer.Option(metavar="SHARE", help="Of all intervals, between 0 and 1.")] = 0.95,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Report on results: accuracy with intervals, confusions, calibration, and the images to look at.

    Without --truth the report counts labels and confidences, and lists what the model was least certain of.

    Exit code: 0 if the report was made, 1 if not, 2 if the command was not understood.

    \b
    Examples:
      fastinfer report results.parquet --truth truth.csv --images photos/ -o report.html
      fastinfer report results.jsonl --truth folders
    """
    if out is not None and not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent} to write {out.name} into.")

    from fastinfer.reporting import report as make_report

    made = make_report(results, truth, images=images, title=title, confidence=confidence)
    output.report(made, as_json=json)
    if out is not None:
        output.note(f"report: {made.save(out)}")
