"""``fastinfer verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.explain import find_preset
from fastinfer.cli.options import Debug, Json, PresetKind

__all__ = ["verify"]


def verify(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset with a receipt: a built-in one.")],
    kind: Annotated[PresetKind | None, typer.Option(help="Its kind, where both kinds have the name.")] = None,
    model: Annotated[str | None, typer.Option(help="The model to measure with; by default the preset's own.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Measure for so long; loading the model is not in it.")] = 60,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a preset again and say how it compares with its receipt.

    Figures are judged on the hardware and the model of the receipt; elsewhere they are shown beside each other.

    Exit code: 0 unless a figure is clearly worse, by more than a tenth than the receipt's worst round.

    \b
    Examples:
      fastinfer verify prod --kind classify
      fastinfer verify embedded --kind chat --seconds 20 --json
    """
    from fastinfer.verifying import verify as verify_preset

    verification = verify_preset(find_preset(preset, kind), model=model, seconds=seconds)
    output.report(verification, as_json=json)
    if not verification.ok:
        output.error(f"{preset} is clearly slower here than when its receipt was taken.")
        raise typer.Exit(1)
