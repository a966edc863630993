"""What a plan is made for: a GPU of the table, one that is here, or the CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from fastinfer.errors import EngineUnavailableError, PresetError
from fastinfer.machine.cards import Card, cards, find_card
from fastinfer.machine.memory import host_memory
from fastinfer.planning.need import Place

__all__ = ["Device", "device_for", "device_here", "known_gpus", "this_cpu"]


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model is to run.

    Attributes:
        name: of the GPU; ``"CPU"`` without one.
        here: it is in this machine, so that what is free of it counts.
        memory: bytes in all, as the system or nvidia-smi shows them; 0 where the system does not tell.
        available: bytes that a program can have; 0 where the system does not tell.
        card: what is known of the GPU; None without one.
    """

    name: str
    here: bool
    memory: int
    available: int
    card: Card | None

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.card is not None

    @property
    def place(self) -> Place:
        """The memory that decides whether something fits."""
        return "gpu" if self.is_gpu else "host"

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "name": self.name,
            "gpu": self.is_gpu,
            "here": self.here,
            "memory": self.memory,
            "available": self.available,
            "source": self.card.source if self.card else "the system",
        }


def device_for(gpu: str) -> Device:
    """The GPU of this name, or the CPU.

    Args:
        gpu: a card's name, its memory such as ``"24GiB"``, or ``"cpu"``.

    Raises:
        PresetError: no card is known by that name.
    """
    if gpu.strip().lower() in ("cpu", "none"):
        return this_cpu()
    return _elsewhere(find_card(gpu))


def device_here(index: int = 0) -> Device:
    """A GPU of this machine, or its CPU where there is no such GPU.

    Args:
        index: CUDA's number of it.
    """
    from fastinfer.engines.turbomind.gpus import gpus

    try:
        found = gpus()[index]
    except (EngineUnavailableError, IndexError):
        return this_cpu()
    try:
        card = find_card(found.name)
    except PresetError:
        card = Card(found.name, (), found.memory, None, None, found.capability, "the driver")
    free = _free(index)
    return Device(found.name, True, card.memory, found.memory if free is None else free, card)


def known_gpus() -> list[Device]:
    """Every card of the table, those with the least memory first."""
    return [_elsewhere(card) for card in sorted(cards(), key=lambda card: card.memory)]


def _elsewhere(card: Card) -> Device:
    return Device(card.name, False, card.memory, card.usable, card)


def this_cpu() -> Device:
    """The CPU of this machine."""
    memory = host_memory()
    return Device("CPU", True, memory.total if memory else 0, memory.free if memory else 0, None)


def _free(index: int) -> int | None:
    """Bytes that nobody holds of a GPU, by CUDA's number; None where nvidia-ml-py is missing or its numbers differ."""
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return None  # NVML counts all GPUs, CUDA those that are visible
    from fastinfer.machine.checks.nvml import read_management

    return next((state.free for state in read_management().states if state.index == index), None)
