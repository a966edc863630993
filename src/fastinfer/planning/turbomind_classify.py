"""Plans for classification on TurboMind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fastinfer.engines.turbomind.gpus import BFLOAT16, OLDEST, dotted
from fastinfer.engines.turbomind.memory import memory_need
from fastinfer.engines.turbomind.settings import EngineSettings, effective_settings, replica_devices
from fastinfer.models import CheckpointInfo
from fastinfer.planning.device import Device, known_gpus
from fastinfer.planning.engine import EnginePlanner
from fastinfer.planning.need import PROMPT_TEXT, Need
from fastinfer.planning.result import Bound
from fastinfer.planning.turbomind import CONTEXT, turbomind_need
from fastinfer.preset_library import Preset, TurbomindClassifyParameters
from fastinfer.provenance import Adjustment

__all__ = ["TurbomindPlanner"]

_BYTES: Final = 2  # of a weight that is computed with


class TurbomindPlanner(EnginePlanner):
    """What classification presets take with one checkpoint.

    Args:
        info: the checkpoint.
    """

    def __init__(self, info: CheckpointInfo) -> None:
        self._info = info

    def needs(self, presets: Sequence[Preset], device: Device) -> list[Need]:
        """What each of these takes of one GPU, whose cache gets a share of what others do not hold.

        Without a GPU it is the smallest known card that it fits.
        """
        found = []
        for preset in presets:
            gpu = device if device.is_gpu else self._smallest(preset)
            held = 0 if gpu.card is None else max(0, gpu.card.usable - gpu.available)
            found.append(turbomind_need(self._info, self._settings(preset, gpu)[0], gpu.memory - held))
        return found

    def gpu_index(self, preset: Preset) -> int:
        """The first GPU of the first replica."""
        return replica_devices(_parameters_of(preset))[0][0]

    def obstacle(self, preset: Preset, device: Device) -> str:
        """TurboMind computes on NVIDIA's GPUs alone, and not on the oldest."""
        if not device.is_gpu:
            smallest = self._smallest(preset).name
            return f"TurboMind needs an NVIDIA GPU, such as {smallest} below; 'embedded' runs on any CPU."
        capability = None if device.card is None else device.card.capability
        if capability is not None and capability < OLDEST:
            return f"it has compute capability {dotted(capability)}, and TurboMind needs {dotted(OLDEST)}."
        return ""

    def fits(self, preset: Preset, need: Need, device: Device) -> bool:
        """As TurboMind's own check decides, which is careful: what does not fit would end the process."""
        settings, _ = self._settings(preset, device)
        limit = memory_need(self._info, settings)
        return limit.fits(device.available - CONTEXT, settings.cache_max_entry_count)

    def adjustments(self, preset: Preset, device: Device) -> Sequence[Adjustment]:
        """What TurboMind needs otherwise."""
        return self._settings(preset, device)[1]

    def bounds(self, preset: Preset, device: Device, need: Need) -> Iterator[Bound]:
        """Images a second that the arithmetic of the card allows."""
        card, info = device.card, self._info
        if card is None or card.flops is None or info.image_tokens is None or info.vision is None or info.quantisation:
            return
        text = (info.weight_bytes - info.vision_bytes) / _BYTES - 2 * info.text.vocabulary * info.text.hidden
        tokens = info.image_tokens + PROMPT_TEXT
        patches = info.image_tokens * info.vision.merge**2
        operations = 2 * (text * tokens + info.vision_bytes / _BYTES * patches)
        why = f"{operations / 1e12:.2f} TFLOP for an image and {PROMPT_TEXT} tokens of text"
        yield Bound("images", card.flops / operations, "a second", why)

    def _smallest(self, preset: Preset) -> Device:
        """The smallest card of the table that the preset fits, else the largest."""
        gpus = known_gpus()
        usable = [gpu for gpu in gpus if not self.obstacle(preset, gpu)]
        return next((gpu for gpu in usable if self.fits(preset, self.needs([preset], gpu)[0], gpu)), gpus[-1])

    def _settings(self, preset: Preset, device: Device) -> tuple[EngineSettings, tuple[Adjustment, ...]]:
        parameters = _parameters_of(preset)
        capability = None if device.card is None else device.card.capability
        bfloat16 = capability is None or capability >= BFLOAT16
        devices = replica_devices(parameters)[0]
        return effective_settings(parameters, self._info, devices=devices, bfloat16=bfloat16)


def _parameters_of(preset: Preset) -> TurbomindClassifyParameters:
    parameters = preset.parameters
    assert isinstance(parameters, TurbomindClassifyParameters)
    return parameters
