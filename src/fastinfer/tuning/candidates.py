"""From a preset and a ladder to the presets that are tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastinfer.errors import PresetError
from fastinfer.preset_library import Preset
from fastinfer.preset_library.preset import changed_fields
from fastinfer.tuning.ladders import Ladder

__all__ = ["Candidate", "candidates", "changes_between", "with_room"]

#: llama.cpp rounds what a sequence may hold up to a multiple of this.
_CELLS: Final = 256
#: The formats of the KV cache, the more exact ones later.
_FORMATS: Final = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "bf16", "f16", "f32")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A preset to be tried.

    Attributes:
        changes: its values that differ from those of the preset that tuning started from.
        preset: itself; None where the values are not legal.
        fault: why they are not.
    """

    changes: dict[str, Any]
    preset: Preset | None
    fault: str = ""


def candidates(start: Preset, best: Preset, ladder: Ladder, tokens: int) -> list[Candidate]:
    """The presets that a ladder makes of the best one so far, in its order; the best itself is not among them.

    Args:
        start: the preset that tuning started from.
        best: the best one so far.
        ladder: the values to be tried.
        tokens: the longest prompt of the sample with its reply; 0 for images.
    """
    parameters = best.parameters.model_dump()
    made = []
    for entry in ladder.values:
        value = entry(parameters) if callable(entry) else entry
        if not _towards(ladder.towards, parameters[ladder.fields[0]], value):
            continue
        changes = with_room({**parameters, **dict.fromkeys(ladder.fields, value)}, tokens)
        try:
            preset = best.replace(**changes)
        except PresetError as error:
            made.append(Candidate(dict.fromkeys(ladder.fields, value), None, str(error)))
            continue
        if preset.parameters != best.parameters:
            made.append(Candidate(changes_between(start, preset), preset))
    return made


def changes_between(start: Preset, preset: Preset) -> dict[str, Any]:
    """The values of ``preset`` that differ from those of ``start``, in the preset's order."""
    return preset.parameters.model_dump(include=set(changed_fields(preset.parameters, since=start.parameters)))


def with_room(parameters: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """The parameters with a context in which every slot holds a conversation.

    Slots that do not share their cache get ``n_ctx / parallel`` tokens each, so that more slots need more context;
    where they share it, all of them are to be full at once.

    Args:
        parameters: of a preset.
        tokens: of a conversation, reply included; 0 leaves the context as it is.
    """
    changed = dict(parameters)
    if tokens:
        least = -(-tokens // _CELLS) * _CELLS * parameters["parallel"]
        changed["n_ctx"] = max(parameters["n_ctx"], least)
    return changed


def _towards(direction: Literal["any", "higher", "lower"], now: Any, value: Any) -> bool:
    """Whether a value lies in the direction from the one now."""
    if direction == "any":
        return True
    if isinstance(value, str):
        now, value = _FORMATS.index(now), _FORMATS.index(value)
    return bool(value > now if direction == "higher" else value < now)
