"""A preset in a small table: its values, and which of them are not the documented ones."""

from __future__ import annotations

from typing import Final

from fastinfer.preset_library.preset import Preset
from fastinfer.showing import Report

__all__ = ["report"]

#: Characters of a cell.
_CELL: Final = 60


def report(preset: Preset) -> Report:
    """Name, kind and summary of a preset, and its parameters in their order; ``explain()`` says what they do."""
    documented = preset.documented.model_dump()
    values = preset.parameters.model_dump()
    return Report(
        title=f"{preset.name} ({preset.kind}), {preset.source}, fingerprint {preset.fingerprint}",
        before=[preset.summary],
        headings=("field", "value", "documented, where it differs"),
        rows=[
            (name, _cell(value), "" if documented.get(name, value) == value else _cell(documented[name]))
            for name, value in values.items()
        ],
    )


def _cell(value: object) -> str:
    """A value on one line, without control characters, and not too long for a table."""
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= _CELL else f"{line[: _CELL - 3]}..."
