"""Plans for chat on llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fastinfer.chat.engine_config import engine_config
from fastinfer.engines.llama.dry_run import ContextSizes, dry_run
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.models import GgufOutline
from fastinfer.planning.device import Device
from fastinfer.planning.engine import EnginePlanner, Resort
from fastinfer.planning.llama import cpu_need, gpu_need
from fastinfer.planning.need import Need, size_text
from fastinfer.planning.result import Bound
from fastinfer.planning.vision import Encoder, encoder_of
from fastinfer.planning.weights import GgufSizes, split_weights
from fastinfer.preset_library import LlamaChatParameters, Preset
from fastinfer.provenance import Adjustment

__all__ = ["LlamaChatPlanner"]

_IMAGES: Final = 1  # a chat's pictures are encoded one by one


class LlamaChatPlanner(EnginePlanner):
    """What chat presets take with one model.

    Args:
        outline: the model's headers.
    """

    def __init__(self, outline: GgufOutline) -> None:
        self._outline = outline
        self._sizes = GgufSizes.read(outline.headers)
        self._tried: dict[str, tuple[ContextShape, ContextSizes]] = {}

    def gpu_index(self, preset: Preset) -> int:
        """The number in the device's name."""
        return int("".join(filter(str.isdigit, _parameters_of(preset).device)) or 0)

    def obstacle(self, preset: Preset, device: Device) -> str:
        """Presets name their device, and another one is never taken silently."""
        if device.is_gpu or not preset.parameters.uses_gpu:
            return ""
        return (
            f"it asks for {_parameters_of(preset).device}, and there is no GPU. Below is what the CPU would take with "
            "device='CPU', n_gpu_layers=0."
        )

    def needs(self, presets: Sequence[Preset], device: Device) -> list[Need]:
        """What each of these takes, on a GPU or on the CPU.

        Raises:
            ModelLoadError: this llama.cpp cannot run the model.
        """
        if not device.is_gpu:
            presets = [preset.replace(device="CPU", n_gpu_layers=0) for preset in presets]
        trials = self._trials(presets)
        return [self._need(preset, trial, device) for preset, trial in zip(presets, trials, strict=True)]

    def _trials(self, presets: Sequence[Preset]) -> list[tuple[ContextShape, ContextSizes]]:
        """What llama.cpp says of the presets' contexts; each is asked for once."""
        from fastinfer.engines.llama.chat.layout import context_shape

        outline = self._outline
        projector = None if outline.projector is None else outline.projector.path
        new = {preset.fingerprint: preset for preset in presets if preset.fingerprint not in self._tried}
        shapes = [
            context_shape(engine_config(_parameters_of(preset), outline.model, projector)) for preset in new.values()
        ]
        if new:
            self._tried |= zip(new, zip(shapes, dry_run(outline.model, shapes), strict=True), strict=True)
        return [self._tried[preset.fingerprint] for preset in presets]

    def _need(self, preset: Preset, trial: tuple[ContextShape, ContextSizes], device: Device) -> Need:
        parameters, headers = _parameters_of(preset), self._outline.headers
        shape, sizes = trial
        encoder, tokens = self._encoder(parameters), _tokens(parameters, shape.n_ctx)
        if not device.is_gpu:
            return cpu_need(shape, sizes, self._sizes, encoder, tokens=tokens)
        split = split_weights(headers, self._sizes, parameters.n_gpu_layers)
        return gpu_need(shape, sizes, self._sizes, split, encoder, tokens=tokens)

    def adjustments(self, preset: Preset, device: Device) -> Iterator[Adjustment]:
        """What the engine would get otherwise, as far as the header tells."""
        parameters = _parameters_of(preset)
        trained = self._outline.headers[0].metadata.get(f"{self._sizes.architecture}.context_length")
        slot = parameters.n_ctx if parameters.kv_unified else parameters.n_ctx // parameters.parallel
        if isinstance(trained, int) and 0 < trained < slot:
            why = f"a conversation ends at the {trained} tokens the model was trained for"
            yield Adjustment("n_ctx", parameters.n_ctx, trained, why)

    def bounds(self, preset: Preset, device: Device, need: Need) -> Iterator[Bound]:
        """What the card's memory and arithmetic allow."""
        parameters, card = _parameters_of(preset), device.card
        if card is None or card.bandwidth is None or card.flops is None:
            return
        layers = self._sizes.layers + 1
        if 0 <= parameters.n_gpu_layers < layers:
            return
        weights = next(part.size for part in need.parts if part.name == "weights" and part.place == "gpu")
        once = card.bandwidth / weights
        yield Bound("one reply", once, "tokens/s", "every token reads all weights once")
        together = f"{parameters.parallel} replies share each reading of the weights"
        yield Bound(f"{parameters.parallel} replies together", once * parameters.parallel, "tokens/s", together)
        prefill = card.flops / (2 * self._sizes.parameters)
        yield Bound("prompts", prefill, "tokens/s", "two operations for each weight and token")

    def last_resort(self, preset: Preset, device: Device) -> Resort | None:
        """As many layers on the GPU as fit it."""
        if not device.is_gpu:
            return None
        # llama.cpp says of a context what it takes whatever the layers, so one trial serves all.
        (trial,) = self._trials([preset])
        least, most, found = 1, self._sizes.layers, None
        while least <= most:
            middle = (least + most) // 2
            fewer = preset.replace(n_gpu_layers=middle)
            need = self._need(fewer, trial, device)
            if need.total("gpu") <= device.available:
                found, least = (fewer, need), middle + 1
            else:
                most = middle - 1
        return None if found is None else Resort(*found, "The CPU computes the other layers, several times slower.")

    def advice(self, need: Need, device: Device) -> Iterator[str]:
        """How small the weights would have to be."""
        weights = self._sizes.weights
        there = next((part.size for part in need.parts if part.name == "weights"), 0)
        room = device.available - (need.total(device.place) - there)
        if room > 0:
            # Of a file's weights, those that stay on the host do not count.
            bits, fraction = 8 * weights / self._sizes.parameters, room / there
            yield (
                f"After the documented steps a quantisation of at most {size_text(fraction * weights)}, "
                f"{fraction * bits:.1f} bits a weight, would fit; this one is {size_text(weights)}, {bits:.1f} bits."
            )

    def _encoder(self, parameters: LlamaChatParameters) -> Encoder | None:
        if self._outline.projector is None:
            return None
        return encoder_of(self._outline.projector, images=_IMAGES, flash_attn=parameters.flash_attn)


def _parameters_of(preset: Preset) -> LlamaChatParameters:
    parameters = preset.parameters
    assert isinstance(parameters, LlamaChatParameters)
    return parameters


def _tokens(parameters: LlamaChatParameters, cells: int) -> str:
    slots = parameters.parallel
    if parameters.kv_unified:
        return f"{cells} tokens for {slots} slots together"
    more = cells // (parameters.n_ctx // slots) - slots
    also = f" and {more} for padding" if more else ""
    return f"{slots} slots of {parameters.n_ctx // slots} tokens{also}"
