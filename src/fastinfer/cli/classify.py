"""``fastinfer classify``."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.inputs import STDIN, find_images, read_labels
from fastinfer.cli.job import Limit, OutputFile, Overwrite, RetryErrors, ShardOfJob, check_job_options, run_job
from fastinfer.cli.options import Debug, Isolate, Json, Labels, LabelsFile
from fastinfer.cli.results import COLUMNS, cells, record, show_adjustments

__all__ = ["classify"]


def classify(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATHS", help="Image files, folders of images, and - for stdin.")
    ],
    labels: Labels = None,
    labels_file: LabelsFile = None,
    preset: Annotated[str, typer.Option(help="A preset of kind classify.")] = "embedded",
    model: Annotated[
        str | None,
        typer.Option(help="A GGUF file, a folder with one, or org/repo:QUANT; by default the preset's own."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show the N likeliest labels. By default the best; with --json all."),
    ] = None,
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where the engine needs other values.")] = False,
    isolate: Isolate = False,
    output_file: OutputFile = None,
    retry_errors: RetryErrors = False,
    limit: Limit = None,
    shard: ShardOfJob = None,
    overwrite: Overwrite = False,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Read what links lead to out of the folder.", rich_help_panel="Jobs"),
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", metavar="FILE", help="A saved calibration.", rich_help_panel="Jobs"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Classify images.

    With labels, their probabilities are exact and sum to 1; without, the model names what it sees. Folders are
    searched for images, also below; hidden files are skipped. Piped, the table becomes lines of image, label,
    probability, milliseconds and remarks, separated by tabs.

    With --output it is a job: one file of results, .parquet, .jsonl or .csv, that appears when all is done. A job that
    was interrupted or killed goes on when the same command is given again, and ends with the same bytes.

    Exit code: 0 if every image was classified, 1 if not, 2 if the command was not understood, 130 if a job was
    interrupted.

    \b
    Examples:
      fastinfer classify photo.jpg
      fastinfer classify photos/ --labels cat,dog --top 2
      fastinfer classify photos/ --labels-file labels.txt --json
      cat photo.jpg | fastinfer classify - --labels cat,dog
      fastinfer classify photos/ --labels-file labels.txt -o results.parquet
    """
    chosen = read_labels(labels, labels_file)
    if output_file is not None:
        source = _job_source(paths)

        import fastinfer

        job = partial(
            fastinfer.run,
            source,
            output_file,
            kind="classify",
            preset=preset,
            labels=chosen,
            model=model,
            top=top,
            calibration=calibration,
            retry_errors=retry_errors,
            limit=limit,
            shard=shard,
            overwrite=overwrite,
            follow_links=follow_links,
            progress=not json and sys.stderr.isatty(),
            strict=strict,
            isolate=isolate or None,
        )
        run_job(context, job, what="classified", as_json=json)
        return
    check_job_options(context, "retry_errors", "limit", "shard", "overwrite", "follow_links", "calibration")
    images = find_images(paths)

    from fastinfer.classify import classifier

    with classifier(preset, labels=chosen, model=model, strict=strict, isolate=isolate or None) as loaded:
        if not json:
            show_adjustments(loaded.provenance)
        results = loaded.classify_many(
            [image.source for image in images],
            errors="return",
            progress=not json and len(images) > 1 and sys.stderr.isatty(),
        )
        failed = 0
        if json:
            for image, result in zip(images, results, strict=True):
                output.json_line(record(image.name, result, top))
                failed += not result.ok
        else:
            with output.rows(COLUMNS) as add:
                for image, result in zip(images, results, strict=True):
                    add(*cells(image.name, result, top or 1))
                    failed += not result.ok
    if failed:
        output.error(f"{failed} of {len(images)} images could not be classified.")
        raise typer.Exit(1)


def _job_source(paths: list[str]) -> str | list[str]:
    """The folder, or the files, that a job is for."""
    folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112  Path("") would be the working directory
    if len(paths) == 1 and folders:
        return paths[0]
    if folders or STDIN in paths:
        raise typer.BadParameter("a job takes one folder, or files.")
    return paths
