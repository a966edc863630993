"""``fastinfer plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.explain import find_preset
from fastinfer.cli.options import Debug, Json, PresetKind

__all__ = ["plan"]


def plan(
    name: Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name.")],
    kind: Annotated[PresetKind | None, typer.Option(help="Its kind, where both kinds have the name.")] = None,
    model: Annotated[str | None, typer.Option(help="A path, or org/repo[:QUANT]; else the preset's.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="A card such as A100-40GB or 'RTX 4090', its memory such as 24GiB, or cpu; else what is here."
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a preset takes of a GPU's memory, whether it fits, and what to change if not; loads nothing.

    The exit code is 0 only when it fits.

    \b
    Examples:
      fastinfer plan balanced --gpu A100-40GB
      fastinfer plan prod --kind classify --gpu "RTX 4090"
      fastinfer plan balanced --model model.gguf --json
    """
    from fastinfer.planning import plan as make_plan

    made = make_plan(find_preset(name, kind), model=model, gpu=gpu)
    output.report(made, as_json=json)
    if not made.fits:
        raise typer.Exit(1)
