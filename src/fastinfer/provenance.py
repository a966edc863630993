"""What really ran: carried by every result, shown by ``explain()``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastinfer.errors import PresetError

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


@dataclass(frozen=True, slots=True)
class Provenance:
    """What produced a result.

    Attributes:
        engine: engine and version, for example ``"llama.cpp (llama-cpp-python 0.3.36)"``.
        model: the model's name as it was resolved.
        preset: the preset's name.
        fingerprint: the preset's fingerprint: 16 hexadecimal digits over every value in it.
        device: what the engine computed on, for example ``"CPU"`` or ``"CUDA0"``.
        kernel_path: how the result was computed, for example ``"batched encode, trie scoring"``.
        adjustments: every difference between the preset and what the engine got.
    """

    engine: str
    model: str
    preset: str
    fingerprint: str
    device: str
    kernel_path: str
    adjustments: tuple[Adjustment, ...] = field(default=())


def refuse_adjustments(preset: str, adjustments: Sequence[Adjustment]) -> None:
    """Raise PresetError if there are any: what ``strict=True`` asks for."""
    if adjustments:
        listed = "; ".join(f"{a.field}: {a.asked!r} becomes {a.used!r} ({a.why})" for a in adjustments)
        raise PresetError(
            f"The preset {preset!r} cannot run as it is: {listed}.",
            hint="Change these values, or leave strict out to accept them.",
        )
