"""What really ran: carried by every result, shown by ``explain()``."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastinfer.errors import PresetError
from fastinfer.showing import Report, Section, Shown

__all__ = ["Adjustment", "Provenance", "refuse_adjustments"]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A value that differs from what the preset asked for.

    Attributes:
        field: the preset's field.
        asked: the value in the preset.
        used: the value the engine got.
        why: the reason, in a sentence.
    """

    field: str
    asked: object
    used: object
    why: str

    def __str__(self) -> str:
        return f"{self.field}: asked {self.asked}, got {self.used}: {self.why}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


@dataclass(frozen=True, slots=True)
class Provenance(Shown):
    """What produced a result. ``str()`` gives text; notebooks and rich consoles show a table.

    Attributes:
        engine: engine and version, for example ``"llama.cpp (llama-cpp-python 0.3.36)"``.
        model: the model's name as it was resolved.
        preset: the preset's name.
        fingerprint: the preset's fingerprint: 16 hexadecimal digits over every value in it.
        device: what the engine computed on, for example ``"CPU"`` or ``"CUDA0"``.
        kernel_path: how the result was computed, for example ``"batched encode, trie scoring"``.
        adjustments: every difference between the preset and what the engine got.
        calibration: the fingerprint of the calibration that the probabilities and the prediction set are of; None
            without one.
    """

    engine: str
    model: str
    preset: str
    fingerprint: str
    device: str
    kernel_path: str
    adjustments: tuple[Adjustment, ...] = field(default=())
    calibration: str | None = field(default=None)

    def _report(self) -> Report:
        return Report(
            title=f"{self.model} on {self.device}",
            before=[],
            headings=("", "what ran"),
            rows=[
                ("engine", self.engine),
                ("preset", f"{self.preset}, fingerprint {self.fingerprint}"),
                ("computed by", self.kernel_path),
                *([("calibration", self.calibration)] if self.calibration else []),
            ],
            sections=[Section("The engine got other values than the preset's", [str(a) for a in self.adjustments])],
        )


def refuse_adjustments(preset: str, adjustments: Sequence[Adjustment]) -> None:
    """Raise PresetError if there are any: what ``strict=True`` asks for."""
    if adjustments:
        listed = "; ".join(f"{a.field}: {a.asked!r} becomes {a.used!r} ({a.why})" for a in adjustments)
        raise PresetError(
            f"The preset {preset!r} cannot run as it is: {listed}.",
            hint="Change these values, or leave strict out to accept them.",
        )
