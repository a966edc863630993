"""Plans for classification on llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastinfer.classify.engine_config import ImageInput, engine_config, is_small
from fastinfer.engines.llama.dry_run import ContextSizes, dry_run
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.models import GgufOutline, without_projector
from fastinfer.planning.device import Device
from fastinfer.planning.engine import EnginePlanner
from fastinfer.planning.llama import cpu_need, gpu_need
from fastinfer.planning.need import PROMPT_TEXT, Need
from fastinfer.planning.vision import encoder_of
from fastinfer.planning.weights import GgufSizes, split_weights
from fastinfer.preset_library import LlamaClassifyParameters, Preset
from fastinfer.provenance import Adjustment

__all__ = ["LlamaClassifyPlanner"]


class LlamaClassifyPlanner(EnginePlanner):
    """What classification presets take with one model.

    Args:
        outline: the model's headers.

    Raises:
        ModelLoadError: the model has no vision projector.
    """

    def __init__(self, outline: GgufOutline) -> None:
        if outline.projector is None:
            raise without_projector(outline.name)
        self._outline, self._projector = outline, outline.projector
        self._sizes = GgufSizes.read(outline.headers)
        self._image = ImageInput.read(outline.projector)
        self._tried: dict[ContextShape, ContextSizes] = {}

    def obstacle(self, preset: Preset, device: Device) -> str:
        """Layers are not moved to the CPU silently."""
        if device.is_gpu or not preset.parameters.uses_gpu:
            return ""
        return "n_gpu_layers asks for a GPU, and there is none. Below is what the CPU would take with n_gpu_layers=0."

    def needs(self, presets: Sequence[Preset], device: Device) -> list[Need]:
        """What each of these takes, on a GPU or on the CPU.

        Raises:
            ModelLoadError: this llama.cpp cannot run the model.
        """
        from fastinfer.engines.llama.classify_config import context_shape, threads_of_workers

        if not device.is_gpu:
            presets = [preset.replace(n_gpu_layers=0) for preset in presets]
        outline, projector = self._outline, self._projector
        small = is_small(sum(header.size for header in outline.headers), projector.size)
        configs = [
            engine_config(_parameters_of(preset), outline.model, projector.path, self._image, small=small)
            for preset in presets
        ]
        shapes = [context_shape(config) for config in configs]
        found = []
        for config, shape, sizes in zip(configs, shapes, self._trials(shapes), strict=True):
            encoder = encoder_of(projector, images=config.batch_images, flash_attn=config.flash_attn)
            tokens = f"{shape.n_ctx} tokens for {config.batch_images} images"
            if device.is_gpu:
                split = split_weights(outline.headers, self._sizes, config.n_gpu_layers)
                found.append(gpu_need(shape, sizes, self._sizes, split, encoder, tokens=tokens))
            else:
                # The largest batch is one of images, each with its text.
                each = config.image_tokens
                need = cpu_need(
                    shape,
                    sizes,
                    self._sizes,
                    encoder,
                    tokens=tokens,
                    contexts=len(threads_of_workers(config)),
                    rows=None if each is None else config.batch_images * (each + PROMPT_TEXT),
                )
                found.append(need)
        return found

    def _trials(self, shapes: Sequence[ContextShape]) -> list[ContextSizes]:
        """What llama.cpp says of these contexts; each is asked for once."""
        new = [shape for shape in dict.fromkeys(shapes) if shape not in self._tried]
        if new:
            self._tried |= zip(new, dry_run(self._outline.model, new), strict=True)
        return [self._tried[shape] for shape in shapes]

    def adjustments(self, preset: Preset, device: Device) -> Iterator[Adjustment]:
        """What the engine would get otherwise, as far as the header tells."""
        yield from self._image.adjustments()


def _parameters_of(preset: Preset) -> LlamaClassifyParameters:
    parameters = preset.parameters
    assert isinstance(parameters, LlamaClassifyParameters)
    return parameters
