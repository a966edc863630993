"""From a preset, a model's name and a GPU's name to a plan, with nothing loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastinfer.errors import PresetError
from fastinfer.models import CheckpointOutline, GgufOutline, outline_checkpoint, outline_gguf
from fastinfer.planning.device import Device, device_for, device_here, known_gpus, this_cpu
from fastinfer.planning.engine import EnginePlanner
from fastinfer.planning.ladder import changes, climb_down
from fastinfer.planning.need import Need, size_text
from fastinfer.planning.result import Plan, PlanStep
from fastinfer.preset_library import (
    Kind,
    LlamaChatParameters,
    Preset,
    TurbomindClassifyParameters,
    as_preset,
    default_model,
)

__all__ = ["plan", "steps_down"]


def plan(
    preset: str | Preset = "embedded",
    *,
    kind: Kind | None = None,
    model: str | os.PathLike[str] | None = None,
    gpu: str | None = None,
    **changed: Any,
) -> Plan:
    """What a preset would take of a machine's memory, part by part, before anything is loaded or fetched.

    Only headers are read, of a model that is here or on the Hugging Face hub; of the presets' own models the shapes
    are known without it. llama.cpp tries its contexts in a process of its own, without allocating them (a second or
    two). The figures were within 5 % of what engines took (``benchmarks/memory``).

    Args:
        preset: a preset, or its name.
        kind: ``"classify"`` or ``"chat"``; needed where both kinds have a preset of the name.
        model: as for :func:`fastinfer.classifier` and :func:`fastinfer.llm`; None takes the environment's, then the
            preset's own.
        gpu: a card by name, ``"A100-40GB"`` or ``"RTX 4090"`` for example, its memory such as ``"24GiB"``, or
            ``"cpu"``; None plans for the GPU that is here, with what is free of it, else for the CPU.
        **changed: parameters of the preset to change, as in ``preset.replace(**changed)``.

    Raises:
        PresetError: preset, changed value or GPU is unknown.
        ModelNotFoundError: the model is not to be found, and its shape is not known.
        ModelLoadError: its header is damaged, or the engine cannot run it.
        EngineUnavailableError: llama-cpp-python is missing.
    """
    chosen = as_preset(preset, kind)
    if kind is not None and chosen.kind != kind:
        raise PresetError(
            f"Preset {chosen.name!r} is of kind {chosen.kind!r}, not {kind!r}.", hint="Leave kind out, or name another."
        )
    if changed:
        chosen = chosen.replace(**changed)
    name, _ = default_model(chosen.kind, chosen, model)
    asked = None if gpu is None else device_for(gpu)  # refused before a header is fetched
    with _planner(chosen, name) as (planner, found):
        return _plan(chosen, planner, found, _device(chosen, planner, asked))


def steps_down(preset: Preset, model: str) -> tuple[bool, list[PlanStep]]:
    """Whether a preset fits the device that is here, and every documented step that takes less than those before it.

    Args:
        preset: where to start.
        model: its model's name.

    Raises:
        ModelNotFoundError, ModelLoadError, EngineUnavailableError: as :func:`plan`.
    """
    with _planner(preset, model) as (planner, _):
        device = _device(preset, planner, None)
        (need,) = planner.needs([preset], device)
        steps, _ = _smaller(preset, planner, device, until_fits=False)
        return planner.fits(preset, need, device), [step for step in steps if step.taken]


def _device(preset: Preset, planner: EnginePlanner, asked: Device | None) -> Device:
    if not preset.parameters.uses_gpu:
        return this_cpu()
    return asked or device_here(planner.gpu_index(preset))


@contextmanager
def _planner(preset: Preset, name: str) -> Iterator[tuple[EnginePlanner, GgufOutline | CheckpointOutline]]:
    if isinstance(preset.parameters, TurbomindClassifyParameters):
        from fastinfer.planning.turbomind_classify import TurbomindPlanner

        with outline_checkpoint(name) as checkpoint:
            yield TurbomindPlanner(checkpoint.info), checkpoint
        return

    from fastinfer.planning.llama_chat import LlamaChatPlanner
    from fastinfer.planning.llama_classify import LlamaClassifyPlanner

    chats = isinstance(preset.parameters, LlamaChatParameters)
    with outline_gguf(name) as outline:
        yield (LlamaChatPlanner(outline) if chats else LlamaClassifyPlanner(outline)), outline


def _plan(preset: Preset, planner: EnginePlanner, found: GgufOutline | CheckpointOutline, device: Device) -> Plan:
    obstacle = planner.obstacle(preset, device)
    (need,) = planner.needs([preset], device)
    fits = not obstacle and planner.fits(preset, need, device)
    steps, advice = ([], []) if fits or obstacle else _smaller(preset, planner, device)
    return Plan(
        preset=preset.name,
        kind=preset.kind,
        fingerprint=preset.fingerprint,
        model=found.name,
        source=found.source,
        device=device,
        need=need,
        fits=fits,
        obstacle=obstacle,
        adjustments=tuple(planner.adjustments(preset, device)),
        steps=tuple(steps),
        cards=tuple(_fitting(preset, planner)),
        bounds=tuple(planner.bounds(preset, device, need)),
        remarks=tuple(filter(None, (found.note, *advice, _in_place_of_a_gpu(obstacle, need, device)))),
    )


def _in_place_of_a_gpu(obstacle: str, need: Need, device: Device) -> str:
    """Whether the CPU's memory would do for a preset that asks for a GPU; empty where that is not the question."""
    size = need.total("host")
    if not obstacle or need.total("gpu") or not device.available:
        return ""
    fits = "enough" if size <= device.available else "not enough"
    return f"The CPU would take {size_text(size)}; {size_text(device.available)} are available here, which is {fits}."


def _smaller(
    preset: Preset, planner: EnginePlanner, device: Device, *, until_fits: bool = True
) -> tuple[list[PlanStep], list[str]]:
    """What would make a preset fit: the documented steps up to the first that does, then what else there is."""
    place = device.place
    steps: list[PlanStep] = []
    last, need = preset, None
    for rung in climb_down(preset, lambda presets: planner.needs(presets, device), lambda need: need.total(place)):
        fits = planner.fits(rung.preset, rung.need, device)
        size = rung.need.total(place)
        steps.append(PlanStep(rung.preset, changes(preset, rung.preset), size, fits, rung.taken))
        if fits and until_fits:
            return steps, []
        if rung.taken:
            last, need = rung.preset, rung.need
    resort = planner.last_resort(last, device) if until_fits else None
    if resort is not None:
        found = changes(preset, resort.preset)
        steps.append(PlanStep(resort.preset, found, resort.need.total(place), fits=True, why=resort.why))
    return steps, list(planner.advice(need or planner.needs([last], device)[0], device))


def _fitting(preset: Preset, planner: EnginePlanner) -> Iterator[str]:
    """The cards of the table that have the memory and can run the engine; none where no GPU is used."""
    if not preset.parameters.uses_gpu:
        return
    for other in known_gpus():
        if not planner.obstacle(preset, other) and planner.fits(preset, planner.needs([preset], other)[0], other):
            yield other.name
