"""The documented order in which a preset is made smaller when memory runs out, a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from fastinfer.errors import PresetError
from fastinfer.planning.need import Need
from fastinfer.preset_library import Preset, advice
from fastinfer.preset_library.preset import changed_fields

__all__ = ["Rung", "changes", "climb_down"]

_SYMPTOM: Final = "Out of memory"


@dataclass(frozen=True, slots=True)
class Rung:
    """A step down.

    Attributes:
        preset: after this step and those before it that were taken.
        need: what it takes.
        taken: whether it takes less than before; a step that does not is passed over by the next ones.
    """

    preset: Preset
    need: Need
    taken: bool


def climb_down(
    preset: Preset, needs: Callable[[Sequence[Preset]], Sequence[Need]], size: Callable[[Need], int]
) -> Iterator[Rung]:
    """The documented steps for a preset, each after those before it.

    Values that are not smaller than the preset's are left out.

    Args:
        preset: where to start.
        needs: what presets take; asked once for all that may come.
        size: the bytes that count of a need.
    """
    steps = [(step.field, value) for step in _documented(preset) for value in step.values]
    smaller = {field: [value for name, value in steps if name == field] for field, _ in steps}
    ways = [[(field, None), *((field, value) for value in values)] for field, values in smaller.items()]
    possible: dict[str, Preset] = {preset.fingerprint: preset}
    for way in product(*ways):
        found: Preset | None = preset
        for field, value in way:
            found = found and (found if value is None else _lower(found, field, value))
        if found is not None:
            possible.setdefault(found.fingerprint, found)
    known = dict(zip(possible, needs(list(possible.values())), strict=True))

    for field, value in steps:
        after = _lower(preset, field, value)
        if after is None:
            continue
        taken = size(known[after.fingerprint]) < size(known[preset.fingerprint])
        yield Rung(after, known[after.fingerprint], taken)
        preset = after if taken else preset


def changes(before: Preset, after: Preset) -> dict[str, tuple[Any, Any]]:
    """The fields in which two presets differ, each with both values."""
    names = changed_fields(after.parameters, since=before.parameters)
    return {name: (getattr(before, name), getattr(after, name)) for name in names}


def _documented(preset: Preset) -> Sequence[Any]:
    known = advice(preset.kind, preset.parameters.backend)
    return next((entry.steps for entry in known if entry.symptom == _SYMPTOM), ())


def _lower(preset: Preset, field: str, value: Any) -> Preset | None:
    """The preset with a smaller value, and with it what it bounds; None where it is not smaller or not legal."""
    if not value < getattr(preset, field):
        return None
    wanted = {field: value}
    if field == "n_ctx":
        wanted |= {inner: min(value, getattr(preset, inner)) for inner in ("n_batch", "n_ubatch")}
    try:
        return preset.replace(**wanted)
    except PresetError:
        return None
