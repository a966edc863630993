"""Results as rows of a table and as JSON, for every command that classifies; adjustments for all that run a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastinfer.cli.output import Column, note

if TYPE_CHECKING:
    from fastinfer.classify import Classification
    from fastinfer.provenance import Provenance

__all__ = ["COLUMNS", "cells", "record", "show_adjustments"]

COLUMNS = (
    Column("Image"),
    Column("Label", style="bold"),
    Column("Probability", justify="right"),
    Column("ms", justify="right"),
    Column("Remarks", optional=True),
)


def cells(name: str, result: Classification, top: int = 1) -> tuple[str, ...]:
    """A result's cells under ``COLUMNS``; the remarks are the next likeliest labels, or why there is none."""
    if result.error is not None:
        return name, "", "", "", f"error: {result.error}"
    others = ", ".join(f"{label} {_percent(share)}" for label, share in result.top(top)[1:])
    return name, result.label or "", _percent(result.confidence), f"{_work_ms(result):.1f}", others


def record(name: str, result: Classification, top: int | None = None) -> dict[str, Any]:
    """A result for JSON: ``Classification.to_dict()`` and the path, as ``source`` is the file's name alone."""
    values = {"path": name, **result.to_dict()}
    if top is not None:
        values["probabilities"] = dict(result.top(top))
    return values


def show_adjustments(provenance: Provenance) -> None:
    """Say where the engine got another value than the preset's, and why."""
    for item in provenance.adjustments:
        note(f"note: {item.field}: asked {item.asked}, the engine got {item.used}: {item.why}")


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _work_ms(result: Classification) -> float:
    """What the image took by itself: the wait for its batch would say more about the other images."""
    timings = result.timings
    return 0.0 if timings is None else timings.decode_ms + timings.encode_ms + timings.score_ms
