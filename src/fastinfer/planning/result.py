"""A plan: what a preset would take of a machine, and what to change where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fastinfer.planning.device import Device
from fastinfer.planning.need import Need, Part, Place, size_text
from fastinfer.planning.report import bar, report
from fastinfer.preset_library import Preset
from fastinfer.provenance import Adjustment

__all__ = ["Bound", "Plan", "PlanStep"]

#: A margin below this share of the memory is called tight: what was measured is off by up to this.
_TIGHT: Final = 0.05


@dataclass(frozen=True, slots=True)
class Bound:
    """What the hardware allows at most; real engines stay below.

    Attributes:
        name: of what.
        value: the figure.
        unit: its unit.
        why: how it is computed.
    """

    name: str
    value: float
    unit: str
    why: str


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A way to make the preset smaller.

    Attributes:
        preset: with the changes made.
        changes: the fields to change, each with the value asked for and the one to use.
        size: bytes that it takes then.
        fits: whether that is little enough.
        taken: whether that is less than before; a step that is not is passed over by those after it.
        why: what it costs; may be empty.
    """

    preset: Preset = field(repr=False)
    changes: Mapping[str, tuple[Any, Any]]
    size: int
    fits: bool
    taken: bool = True
    why: str = ""

    @property
    def text(self) -> str:
        """``"n_ubatch 2048 -> 1024, parallel 8 -> 6"``."""
        return ", ".join(f"{field} {before} -> {after}" for field, (before, after) in self.changes.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; sizes in bytes."""
        return {
            "changes": {name: list(values) for name, values in self.changes.items()},
            "size": self.size,
            "fits": self.fits,
            "taken": self.taken,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What :func:`fastinfer.plan` returns. It prints as text and shows as a table, with a bar in a notebook.

    Attributes:
        preset: the preset's name.
        kind: ``"classify"`` or ``"chat"``.
        fingerprint: of its parameters.
        model: as it was found.
        source: where its header is from: ``"package"``, ``"path"``, ``"cache"``, ``"hub"`` or ``"known shape"``.
        device: what it is planned for.
        need: memory by part.
        fits: whether it can be opened there.
        obstacle: why it cannot, where that is not memory; else empty.
        adjustments: what the engine would get otherwise than the preset says, as far as it is known before loading.
        steps: what to change, in the documented order and cumulative, up to the first that fits; empty where it fits.
        cards: names of the cards in the table that it fits.
        bounds: what the hardware allows at most.
        remarks: what the figures assume.
    """

    preset: str
    kind: str
    fingerprint: str
    model: str
    source: str
    device: Device
    need: Need
    fits: bool
    obstacle: str
    adjustments: tuple[Adjustment, ...]
    steps: tuple[PlanStep, ...]
    cards: tuple[str, ...]
    bounds: tuple[Bound, ...]
    remarks: tuple[str, ...]

    @property
    def place(self) -> Place:
        """The memory that decides."""
        return self.device.place

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part of the memory."""
        return self.need.parts

    @property
    def size(self) -> int:
        """Bytes that it takes of the memory that decides."""
        return self.need.total(self.place)

    @property
    def margin(self) -> int:
        """Bytes that are left there; negative where they are lacking."""
        return self.device.available - self.size

    @property
    def tight(self) -> bool:
        """It fits by less than these figures are sure of."""
        return self.fits and self.margin < _TIGHT * self.device.memory and self.device.memory > 0

    @property
    def remedy(self) -> PlanStep | None:
        """The first step with which it fits."""
        return next((step for step in self.steps if step.fits and step.taken), None)

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        where = self.device.name
        if self.obstacle:
            return f"Does not run on {where}: {self.obstacle}"
        if not self.device.memory:
            return f"Takes {size_text(self.size)} on {where}; how much there is, the system does not tell."
        if self.fits:
            how = ", but only just" if self.tight else ""
            left = f"{size_text(self.margin)} of {size_text(self.device.available)} are left"
            return f"Fits {where}{how}: {left}."
        lacking = size_text(-self.margin) if self.margin < 0 else "room for the cache"
        return f"Does not fit {where}: {size_text(self.size)} are needed, {lacking} lacking."

    def parts_of(self, place: Place) -> list[Part]:
        """The parts of one memory."""
        return [part for part in self.parts if part.place == place]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values that JSON can hold; sizes in bytes."""
        return {
            "preset": self.preset,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "source": self.source,
            "device": self.device.to_dict(),
            "fits": self.fits,
            "tight": self.tight,
            "verdict": self.verdict,
            "obstacle": self.obstacle,
            "size": self.size,
            "margin": self.margin,
            "parts": [part.to_dict() for part in self.parts],
            "adjustments": [asdict(adjustment) for adjustment in self.adjustments],
            "steps": [step.to_dict() for step in self.steps],
            "cards": list(self.cards),
            "bounds": [asdict(bound) for bound in self.bounds],
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        return report(self).as_text()

    def __rich__(self) -> object:
        return report(self).as_rich()

    def _repr_html_(self) -> str:
        return bar(self) + report(self).as_html()
