"""What of the machine an actor was given."""

from __future__ import annotations

import sys
from typing import Any

from fastinfer.preset_library import Preset

__all__ = ["within_actor"]


def within_actor(preset: Preset, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes with the actor's share of the CPU as ``n_threads``, for presets that compute on the CPU.

    Ray reserves cores by counting and leaves it to the actor to keep to them; without this, two actors of one core each
    would start threads for all the cores of the machine.

    Args:
        preset: as it will be opened.
        changes: what the caller changes in it; his own ``n_threads`` stays.
    """
    cores = _reserved_cores()
    parameters = preset.parameters
    if cores is None or parameters.uses_gpu or "n_threads" in changes or getattr(parameters, "n_threads", None):
        return changes
    return {**changes, "n_threads": cores}


def _reserved_cores() -> int | None:
    """Cores that Ray has reserved for this actor; None outside an actor, or where it reserved none."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    return int(context.get_assigned_resources().get("CPU", 0)) or None
