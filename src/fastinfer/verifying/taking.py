"""A preset measured here with work that is made here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from fastinfer.measuring import Figures, Receipt, Workload, measure_preset
from fastinfer.preset_library import Preset
from fastinfer.verifying.workloads import image_files, label_set, prompts

__all__ = ["measure"]

_MOST_ROUNDS: Final = 9


def measure(
    preset: Preset,
    workload: Workload,
    *,
    model: str | os.PathLike[str] | None = None,
    seconds: float = 60.0,
    command: str,
) -> Receipt:
    """Load a preset's model, do the work round by round, and close it.

    A round that nobody counts comes first. Of the others there is at least one, and up to 9 if the time allows.

    Args:
        preset: what to measure.
        workload: a round's work, one of those that :mod:`fastinfer.verifying.workloads` makes.
        model: as :func:`fastinfer.classifier` or :func:`fastinfer.llm` takes it.
        seconds: to measure for, the first round included and loading not.
        command: what is to stand in the receipt.

    Raises:
        PresetError: the workload is not made by this package, or as the functions that load a model.
        FastInferError: as :func:`fastinfer.classifier` and :func:`fastinfer.llm`; or every item failed.
    """
    # Images before anything is loaded; prompts are counted by the model's own tokenizer.
    files = [] if preset.kind == "chat" else image_files(workload)
    return measure_preset(
        preset,
        workload,
        lambda loaded: prompts(loaded, workload) if preset.kind == "chat" else files,
        model=model,
        labels=label_set(workload),
        rounds=lambda one: _rounds(one, seconds),
        command=command,
    )


def _rounds(one: Callable[[], Figures], seconds: float) -> list[Figures]:
    started = time.perf_counter()
    one()
    rounds = [one()]
    # As long as another fits that takes what one took so far on average.
    while len(rounds) < _MOST_ROUNDS:
        spent = time.perf_counter() - started
        if spent + spent / (len(rounds) + 1) > seconds:
            break
        rounds.append(one())
    return rounds
