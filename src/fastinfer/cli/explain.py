"""``fastinfer explain``."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.options import Debug, Json, PresetKind

if TYPE_CHECKING:
    from fastinfer.preset_library import Preset

__all__ = ["Language", "explain", "find_preset"]


class Language(str, Enum):
    """The languages that presets are explained in."""

    en = "en"
    vi = "vi"


def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A preset's name.")],
    kind: Annotated[PresetKind | None, typer.Option(help="Its kind, where both kinds have the name.")] = None,
    lang: Annotated[Language, typer.Option(help="The language: English or Vietnamese.")] = Language.en,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Explain every parameter of a preset: value, effect, cost, when to change it.

    \b
    Examples:
      fastinfer explain balanced
      fastinfer explain prod --kind classify
      fastinfer explain balanced --lang vi
    """
    explanation = find_preset(name, kind).explain(lang=lang.value)
    output.report(explanation, as_json=json)


def find_preset(name: str, kind: PresetKind | None) -> Preset:
    """The preset of a name, and what to add to the command line where both kinds have it."""
    from fastinfer.errors import PresetError
    from fastinfer.preset_library import preset, presets

    try:
        return preset(name, None if kind is None else kind.value)
    except PresetError as error:
        if kind is None and sum(known.name == name for known in presets()) > 1:
            options = " or ".join(f"--kind {known.value}" for known in PresetKind)
            raise typer.BadParameter(f"both kinds have a preset {name!r}: add {options}.") from error
        raise
