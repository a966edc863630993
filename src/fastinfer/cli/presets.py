"""``fastinfer presets``."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.options import Debug, Json, PresetKind

__all__ = ["presets"]

_COLUMNS = (output.Column("Preset", style="bold"), output.Column("Kind, engine, model, source, and what it is for"))


def presets(
    kind: Annotated[PresetKind | None, typer.Option(help="Only presets of this kind.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the presets: the built-in ones, and your own from fastinfer.toml.

    \b
    Examples:
      fastinfer presets
      fastinfer presets --kind chat --json
    """
    from fastinfer.preset_library import presets as find_presets

    found = find_presets(None if kind is None else kind.value)
    if json:
        for preset in found:
            output.json_line(preset.to_dict())
        return
    with output.rows(_COLUMNS) as add:
        for preset in found:
            facts = (preset.kind, preset.parameters.backend, preset.parameters.model, preset.source)
            purpose = _first_sentence(preset.summary)
            if output.on_terminal():
                # Six columns would be a few letters wide each.
                add(preset.name, (", ".join(facts), purpose))
            else:
                add(preset.name, *facts, purpose)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
