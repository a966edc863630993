"""``fastinfer tune``."""

from __future__ import annotations

import re
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.entry import INTERRUPTED
from fastinfer.cli.inputs import read_labels
from fastinfer.cli.options import Debug, Json, as_typed
from fastinfer.cli.sample import Images, Labels, Model, Prompts, ReplyTokens, SampleKind, read_sample

if TYPE_CHECKING:
    from fastinfer.preset_library import Kind

__all__ = ["tune"]

_UNITS = {"ms": 1e-3, "s": 1.0, "MiB": 2.0**20, "GiB": 2.0**30, "": 1.0}


class TuningAim(str, Enum):
    """What can be tuned for."""

    throughput = "throughput"
    first_token_latency = "first-token-latency"
    inter_token_latency = "inter-token-latency"
    memory = "memory"


def tune(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PRESET", help="The preset to start from.")],
    images: Images = None,
    prompts: Prompts = None,
    kind: SampleKind = None,
    model: Model = None,
    labels: Labels = None,
    aim: Annotated[TuningAim, typer.Option(help="What is to become better.")] = TuningAim.throughput,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE",
            help="Raise the throughput as far as the aim's figure stays within this: 40ms, 0.5s, 12GiB.",
        ),
    ] = None,
    budget: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long it may take.")] = 300,
    max_tokens: ReplyTokens = 128,
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Save the result in fastinfer.toml under this name.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write throughput against latency as a PNG image.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the values of a preset that do best here, by measuring with your own images or prompts.

    It starts from the preset, walks the documented ladders field by field, and keeps what is better beyond the
    spread of the rounds. Ctrl-C ends it with the best so far.

    Exit code: 0 if all went well, 1 if not, 2 if the command was not understood, 130 if it was interrupted.

    \b
    Examples:
      fastinfer tune embedded --images photos/ --labels cat,dog --budget 60
      fastinfer tune balanced --prompts prompts.txt --model model.gguf --save mine --plot curve.png
      fastinfer tune balanced --prompts prompts.txt --aim inter-token-latency --limit 40ms --json
    """
    sample = read_sample(images, prompts, kind)
    if sample is None:
        raise typer.BadParameter("give a sample to measure with: --images DIR or --prompts FILE.")
    most = None if limit is None else _limit(limit, aim)
    if plot is not None:
        _check_plot(plot)
    if save is not None:
        _check_name(save, sample.kind)

    from fastinfer.tuning import tune as tune_preset

    tuned = tune_preset(
        name,
        sample=sample.items,
        kind=sample.kind,
        model=model,
        labels=read_labels(labels, None),
        aim=aim.value,
        limit=most,
        budget=budget,
        max_tokens=max_tokens,
        progress=not json and sys.stderr.isatty(),
        command=as_typed(context),
    )
    output.report(tuned, as_json=json)
    if plot is not None:
        tuned.plot(plot)
        output.note(f"plot: {plot}")
    if save is not None:
        output.note(f"saved as {save} in {tuned.preset.save(name=save)}")
    if tuned.stopped == "interrupted":
        raise typer.Exit(INTERRUPTED)


def _limit(text: str, aim: TuningAim) -> float:
    """Seconds or bytes; a number alone is either."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|MiB|GiB|)\s*", text)
    if match is None:
        raise typer.BadParameter(f"--limit {text}: give a number with ms, s, MiB or GiB after it.")
    number, unit = match.groups()
    if unit and (unit in ("MiB", "GiB")) != (aim is TuningAim.memory):
        raise typer.BadParameter(f"--limit {text}: the aim {aim.value} is not measured in {unit}.")
    return float(number) * _UNITS[unit]


def _check_plot(plot: str) -> None:
    """Before minutes are spent on what cannot be drawn."""
    from fastinfer.tuning.plot import check

    if not Path(plot).parent.is_dir():
        raise typer.BadParameter(f"--plot {plot}: there is no folder {Path(plot).parent}.")
    check()


def _check_name(name: str, kind: Kind) -> None:
    """Before minutes are spent on what cannot be saved."""
    from fastinfer.preset_library import presets

    taken = next((known for known in presets(kind) if known.name == name and known.source != "built-in"), None)
    if not name or taken is not None:
        raise typer.BadParameter(f"--save {name}: " + (f"{taken.source} has that name." if taken else "give a name."))
