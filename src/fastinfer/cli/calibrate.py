"""``fastinfer calibrate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.inputs import read_labels
from fastinfer.cli.options import Debug, Json, Labels, LabelsFile
from fastinfer.cli.results import show_adjustments

__all__ = ["calibrate"]


def calibrate(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Images in subfolders that are their labels.")],
    file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.json", help="Write the calibration there.")],
    labels: Labels = None,
    labels_file: LabelsFile = None,
    preset: Annotated[str, typer.Option(help="A preset of kind classify.")] = "embedded",
    model: Annotated[str | None, typer.Option(help="The model; by default the preset's own.")] = None,
    coverage: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="How often a set is to hold the right label.")
    ] = 0.9,
    skip_errors: Annotated[bool, typer.Option("--skip-errors", help="Leave out images that fail.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn from labelled images how sure to be, and when not to answer.

    Subfolders name the label of the images in them, and are the label set unless one is given. The file is what
    fastinfer.Calibration.load reads: with it, results have probabilities as sure as they are right, and a set of labels
    that holds the right one as often as asked.

    Exit code: 0 if the calibration was written, 1 if not, 2 if the command was not understood.

    \b
    Examples:
      fastinfer calibrate labelled/ -o calibration.json
      fastinfer calibrate labelled/ -o calibration.json --preset prod --coverage 0.95 --labels-file labels.txt
    """
    chosen = read_labels(labels, labels_file)
    if not file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent} to write {file.name} into.")

    from fastinfer.classify import classifier
    from fastinfer.comparing.collection import collect

    names = collect(folder, chosen).labels
    if names is None:
        raise typer.BadParameter(f"{folder} has no subfolders with images to take the labels from.")
    with classifier(preset, labels=names, model=model) as loaded:
        if not json:
            show_adjustments(loaded.provenance)
        calibration = loaded.calibrate(
            folder,
            coverage=coverage,
            errors="skip" if skip_errors else "raise",
            progress=not json and sys.stderr.isatty(),
        )
    calibration.save(file)
    output.report(calibration, as_json=json)
    output.note(f"calibration: {file}")
