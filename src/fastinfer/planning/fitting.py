"""Opening what may not fit: refused before the engine can end the process, or made smaller a step at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, TypeVar, get_args

from fastinfer.errors import EngineOutOfMemoryError, FastInferError, PresetError
from fastinfer.planning.planner import plan, steps_down
from fastinfer.planning.result import PlanStep
from fastinfer.preset_library import Preset
from fastinfer.provenance import Adjustment

__all__ = ["OnOom", "check_on_oom", "open_fitting"]

_log = logging.getLogger(__name__)

OnOom = Literal["raise", "adapt"]

_Opened = TypeVar("_Opened")
_ADAPT: Final = "on_oom='adapt' takes such steps by itself and reports them."


def check_on_oom(on_oom: str, *, strict: bool) -> None:
    """Refuse a value that is none, or one that contradicts ``strict``.

    Raises:
        PresetError: it is neither ``"raise"`` nor ``"adapt"``, or nothing may be adjusted.
    """
    if on_oom not in get_args(OnOom):
        raise PresetError(f"on_oom is {on_oom!r}.", hint="It is 'raise' or 'adapt'.")
    if strict and on_oom == "adapt":
        raise PresetError("strict=True forbids what on_oom='adapt' asks for.", hint="Leave one of them out.")


def open_fitting(
    preset: Preset,
    model: str,
    open_with: Callable[[Preset, tuple[Adjustment, ...]], _Opened],
    *,
    on_oom: OnOom,
    plan_first: bool,
) -> _Opened:
    """Open a preset, and where memory is short do what ``on_oom`` says.

    Args:
        preset: as it was asked for.
        model: the model's name.
        open_with: opens a preset, given what was adjusted in it; raises EngineOutOfMemoryError.
        on_oom: ``"raise"`` names the first step that would fit; ``"adapt"`` takes documented steps until one does.
        plan_first: ask the plan before the engine, which would end the process rather than raise later on.

    Raises:
        EngineOutOfMemoryError: it does not fit, and neither does the smallest preset where ``on_oom`` is ``"adapt"``.
        FastInferError: whatever else ``open_with`` raises.
    """
    refusal = _refusal(preset, model) if plan_first else None
    if refusal is None:
        try:
            return open_with(preset, ())
        except EngineOutOfMemoryError as error:
            refusal = error
    try:
        seemed_to_fit, steps = steps_down(preset, model)
    except FastInferError:
        raise refusal from refusal.__cause__  # the plan's own trouble is not what the caller asked about
    if on_oom == "raise":
        hints = (refusal.hint, _named(steps, seemed_to_fit=seemed_to_fit))
        raise EngineOutOfMemoryError(refusal.message, hint=" ".join(filter(None, hints)) or None) from refusal
    # Steps that the plan holds for too large are not tried where the plan is what refused.
    for step in steps:
        if plan_first and not step.fits:
            continue
        try:
            return open_with(step.preset, _adjustments(step, refusal))
        except EngineOutOfMemoryError as error:
            refusal = error
    raise EngineOutOfMemoryError(
        refusal.message, hint="No documented step is small enough: take a smaller model, or a GPU with more memory."
    ) from refusal


def _refusal(preset: Preset, model: str) -> EngineOutOfMemoryError | None:
    try:
        made = plan(preset, model=model)
    except FastInferError as error:
        # What is wrong with the model the engine says too; and no process of its own is no reason not to run.
        _log.warning("What %s takes of memory could not be planned: %s", model, error)
        return None
    if made.fits or made.obstacle:
        return None  # what is no matter of memory the engine says itself
    return EngineOutOfMemoryError(f"{made.model}: {made.verdict}", hint=" ".join(made.remarks[-1:]))


def _named(steps: list[PlanStep], *, seemed_to_fit: bool) -> str:
    """Which step to take; what the plan thinks of them is no help where it was wrong about the first."""
    if not steps:
        return ""
    if seemed_to_fit:
        return f"Nothing lacked by the plan, so this process has a limit of its own. Try {steps[0].text}; {_ADAPT}"
    fits = next((step for step in steps if step.fits), None)
    if fits is None:
        return f"No documented step would fit; the smallest is {steps[-1].text}."
    return f"The first step that would fit: {fits.text}; {_ADAPT}"


def _adjustments(step: PlanStep, refusal: EngineOutOfMemoryError) -> tuple[Adjustment, ...]:
    why = f"memory ran short: {refusal.message}"
    return tuple(Adjustment(field, asked, used, why) for field, (asked, used) in step.changes.items())
