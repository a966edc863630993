"""Does a preset do here what it was measured at?"""

from __future__ import annotations

import os

from fastinfer.errors import PresetError
from fastinfer.preset_library import Kind, Preset, as_preset
from fastinfer.verifying.taking import measure
from fastinfer.verifying.verification import Verification, confront

__all__ = ["verify"]


def verify(
    preset: str | Preset,
    *,
    kind: Kind | None = None,
    model: str | os.PathLike[str] | None = None,
    seconds: float = 60.0,
) -> Verification:
    """Measure a preset again, with the work of its receipt, and say what differs and by how much.

    The figures are judged where the hardware and the model are those of the receipt: a figure is clearly worse if it is
    more than a tenth worse than the receipt's worst round. Elsewhere they are shown beside each other. The model is
    loaded and closed again; nothing is written.

    Args:
        preset: a preset or its name.
        kind: ``"classify"`` or ``"chat"``; may be left out where only one kind has the name.
        model: the model to measure with; None takes the environment's, then the preset's own.
        seconds: to measure for, a round that nobody counts included; at least one round is counted, however long it
            takes. Loading the model is not in it.

    Raises:
        PresetError: there is no such preset, or no receipt of it; ``seconds`` is not above 0; or as the functions
            that load a model.
        FastInferError: as :func:`fastinfer.classifier` and :func:`fastinfer.llm`.
    """
    chosen = as_preset(preset, kind)
    if not seconds > 0:
        raise PresetError(f"There are {seconds} seconds to measure in.", hint="Give seconds above 0, 60 for example.")
    receipts = chosen.receipts
    if not receipts:
        raise PresetError(
            f"The preset {chosen.name!r} of kind {chosen.kind!r} has no receipt to verify.",
            hint="Built-in presets have them; fastinfer.measuring.take_receipt measures any other.",
        )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    here = measure(chosen, receipts[0].workload, model=model, seconds=seconds, command="fastinfer.verify")
    return confront(chosen, receipts[0], here, load=load)
