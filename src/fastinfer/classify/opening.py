"""From a preset and a model's name to a running classifier."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.labels import LabelSet, check_labels
from fastinfer.engines.cores import usable_cores
from fastinfer.errors import EngineUnavailableError, ModelLoadError
from fastinfer.models import GgufHeader, GgufModel, check_gguf, resolve_gguf
from fastinfer.preset_library import LlamaClassifyParameters, Preset, default_model
from fastinfer.preset_library import preset as find_preset
from fastinfer.provenance import Adjustment, Provenance, refuse_adjustments

__all__ = ["classifier"]

#: Workers unless the preset says otherwise; beyond this, memory grows faster than speed.
_MOST_WORKERS = 8


def classifier(
    preset: str | Preset = "embedded",
    *,
    labels: Iterable[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    strict: bool = False,
    **changes: Any,
) -> Classifier:
    """Load a model for classification.

    Args:
        preset: a preset of kind "classify", or its name. ``"embedded"`` runs on any CPU with the model in the package.
        labels: 1 to 1000 labels to choose from; None lets the model name what it sees. Can be changed later.
        model: ``"embedded"``, a path to a GGUF file or a folder with one, or ``"org/repo:QUANT@revision"`` on the
            Hugging Face hub; None takes FASTINFER_CLASSIFY_MODEL, then the preset's own.
        strict: raise PresetError where the engine would need a value other than the preset's.
        **changes: parameters of the preset to change, as in ``preset.replace(**changes)``.

    Raises:
        PresetError: the preset is unknown, a changed value is illegal, or ``strict`` and an adjustment is needed.
        LabelError: the labels cannot be scored.
        ModelNotFoundError: there is no such model.
        ModelLoadError: the model's files are damaged, incomplete, or not of a vision model.
        EngineUnavailableError: the engine cannot run here.
        EngineOutOfMemoryError: there is not enough memory.
    """
    checked = None if labels is None else check_labels(labels)
    chosen = preset if isinstance(preset, Preset) else find_preset(preset, kind="classify")
    if changes:
        chosen = chosen.replace(**changes)
    name, _ = default_model("classify", chosen, model)
    parameters = chosen.parameters
    if not isinstance(parameters, LlamaClassifyParameters):
        raise EngineUnavailableError(
            f"The preset {chosen.name!r} asks for the engine {parameters.backend!r}, which this version cannot run.",
            hint="Use the preset 'embedded' with model='org/repo' for a GGUF vision model.",
        )
    files = resolve_gguf(name)
    return _open_llama(chosen, parameters, files, checked, strict)


def _is_small(files: GgufModel) -> bool:
    """Small enough that every CPU core may have an encoder and a KV cache of its own."""
    projector = files.projector.stat().st_size if files.projector else 0
    return files.model.stat().st_size + projector < 64 * 2**20


def _open_llama(
    preset: Preset, parameters: LlamaClassifyParameters, files: GgufModel, labels: LabelSet | None, strict: bool
) -> Classifier:
    if files.projector is None:
        raise ModelLoadError(
            f"The model {files.name} has no vision projector.",
            hint="Put the mmproj GGUF file beside the model, or choose a vision model.",
        )
    try:
        image = _ImageInput(check_gguf(files.projector))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelLoadError(
            f"The header of {files.projector.name} does not describe a vision projector: {error!r}.",
            hint="Fetch the file again, or take the mmproj file of the same repository as the model.",
        ) from error
    adjustments = image.adjustments()
    if strict:
        refuse_adjustments(preset.name, adjustments)

    # Imported here so that llama.cpp is loaded with the first model and not with the package.
    from fastinfer.engines.llama.classify import LlamaClassifyConfig, LlamaClassifyEngine

    cores = parameters.n_threads or usable_cores()
    many = min(cores, _MOST_WORKERS) if _is_small(files) and parameters.n_gpu_layers == 0 else 1
    workers = parameters.workers or many
    engine = LlamaClassifyEngine(
        LlamaClassifyConfig(
            model=files.model,
            projector=files.projector,
            n_ctx=parameters.n_ctx,
            n_batch=parameters.n_batch,
            n_ubatch=parameters.n_ubatch,
            n_threads=cores,
            workers=workers,
            n_gpu_layers=parameters.n_gpu_layers,
            flash_attn=parameters.flash_attn,
            type_k=parameters.type_k,
            type_v=parameters.type_v,
            batch_images=parameters.vision_max_batch_size,
            image_size=image.size,
            image_tokens=image.tokens,
        )
    )
    decode_workers = parameters.decode_workers or usable_cores()
    description = engine.description
    provenance = Provenance(
        engine=description.engine,
        model=files.name,
        preset=preset.name,
        fingerprint=preset.fingerprint,
        device=description.device,
        kernel_path=("images encoded in batches" if description.batched_images else "images encoded one by one")
        + f", {workers} worker{'s' if workers > 1 else ''}",
        adjustments=adjustments,
    )
    return Classifier(
        engine,
        preset=preset,
        provenance=provenance,
        prompt=parameters.prompt,
        open_prompt=parameters.open_prompt,
        max_label_tokens=parameters.max_label_tokens,
        max_pixels=parameters.max_pixels,
        # Enough in flight to fill the batches that run and the next ones, while others are being decoded.
        ahead=2 * parameters.vision_max_batch_size * workers + 2 * decode_workers,
        decode_workers=decode_workers,
        labels=labels,
    )


class _ImageInput:
    """What a projector's header says of its input."""

    def __init__(self, header: GgufHeader) -> None:
        data = header.metadata
        kind = data.get("clip.vision.projector_type", data.get("clip.projector_type"))
        self.size: tuple[int, int] | None = None
        self.tokens: int | None = None
        self._tiles = 1
        if kind == "internvl":
            side, patch = int(data["clip.vision.image_size"]), int(data["clip.vision.patch_size"])
            merge = int(data.get("clip.vision.projector.scale_factor", 2))
            self.size, self.tokens = (side, side), (side // patch // merge) ** 2
            self._tiles = int(data.get("clip.vision.preproc_max_tiles", 12))

    def adjustments(self) -> tuple[Adjustment, ...]:
        if self._tiles == 1 or self.size is None:
            return ()
        why = f"images are resized to {self.size[0]}x{self.size[1]}, one tile, so that each costs {self.tokens} tokens"
        return (Adjustment("image_tiles", self._tiles, 1, why),)
