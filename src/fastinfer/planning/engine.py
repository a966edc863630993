"""What plans need to know of an engine with one model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastinfer.planning.device import Device
from fastinfer.planning.need import Need
from fastinfer.planning.result import Bound
from fastinfer.preset_library import Preset
from fastinfer.provenance import Adjustment

__all__ = ["EnginePlanner", "Resort"]


class Resort(NamedTuple):
    """What can be done beyond the documented steps: a preset, what it takes, and what it costs."""

    preset: Preset
    need: Need
    why: str


class EnginePlanner(ABC):
    """Presets of one engine and kind with one model. Nothing is loaded."""

    @abstractmethod
    def needs(self, presets: Sequence[Preset], device: Device) -> list[Need]:
        """What each of these takes there.

        Raises:
            ModelLoadError: the engine cannot run the model.
        """

    def gpu_index(self, preset: Preset) -> int:
        """Which of this machine's GPUs the preset means, by CUDA's number."""
        return 0

    def obstacle(self, preset: Preset, device: Device) -> str:
        """Why it cannot run there, where that is not memory: a sentence, or empty."""
        return ""

    def fits(self, preset: Preset, need: Need, device: Device) -> bool:
        """Whether the device has the memory, as far as the system tells."""
        return not device.memory or need.total(device.place) <= device.available

    def adjustments(self, preset: Preset, device: Device) -> Iterable[Adjustment]:
        """What the engine would get otherwise than the preset says, as far as headers tell."""
        return ()

    def bounds(self, preset: Preset, device: Device, need: Need) -> Iterable[Bound]:
        """What the card's memory and arithmetic allow at most."""
        return ()

    def last_resort(self, preset: Preset, device: Device) -> Resort | None:
        """A way to make it fit beyond the documented steps.

        Args:
            preset: after the last of them.
            device: where it does not fit.
        """
        return None

    def advice(self, need: Need, device: Device) -> Iterable[str]:
        """What to say where nothing documented is enough.

        Args:
            need: after the last documented step.
            device: where it does not fit.
        """
        return ()
