"""``fastinfer compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.inputs import read_labels
from fastinfer.cli.options import Debug, Json, Labels, LabelsFile

if TYPE_CHECKING:
    from fastinfer.comparing import Comparison

__all__ = ["compare"]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A preset of kind classify.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Images; subfolders are their labels.")],
    labels: Labels = None,
    labels_file: LabelsFile = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model for both; by default each preset's own."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write the disagreements as a picture.")
    ] = None,
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help="Open one preset after the other, to save memory.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run two presets on the same images: who is right how often, where they differ, speed and memory.

    Subfolders name the right label of the images in them, and are the label set unless one is given. Differences come
    with 95% intervals.

    Exit code: 0 if every image was compared, 1 if not, 2 if the command was not understood.

    \b
    Examples:
      fastinfer compare prod prod-exact photos/
      fastinfer compare prod embedded photos/ --labels cat,dog --sheet disagreements.png
    """
    chosen = read_labels(labels, labels_file)
    if sheet is not None and not sheet.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {sheet.parent} to write {sheet.name} into.")

    from fastinfer.comparing import compare as compare_presets

    comparison = compare_presets(
        a,
        b,
        folder,
        labels=chosen,
        model=model,
        at_once=False if one_by_one else None,
        progress=not json and sys.stderr.isatty(),
    )
    output.report(comparison, as_json=json)
    if sheet is not None:
        _write(comparison, sheet)
    if comparison.failures:
        output.error(f"{len(comparison.failures)} of {len(comparison.images)} images could not be compared.")
        raise typer.Exit(1)


def _write(comparison: Comparison, sheet: Path) -> None:
    try:
        comparison.contact_sheet().save(sheet, "PNG")
    except OSError as error:
        raise typer.BadParameter(f"cannot write {sheet}: {error.strerror or error}.") from error
    output.note(f"disagreements: {sheet}")
