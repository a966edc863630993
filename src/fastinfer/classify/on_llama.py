"""A classifier on llama.cpp: from a preset and the files of a GGUF model."""

from __future__ import annotations

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.labels import LabelSet
from fastinfer.engines.cores import usable_cores
from fastinfer.errors import ModelLoadError
from fastinfer.models import GgufHeader, GgufModel, check_gguf
from fastinfer.preset_library import LlamaClassifyParameters, Preset
from fastinfer.provenance import Adjustment, Provenance, refuse_adjustments

__all__ = ["open_on_llama"]

#: Workers unless the preset says otherwise; beyond this, memory grows faster than speed.
_MOST_WORKERS = 8


def _is_small(files: GgufModel) -> bool:
    """Small enough that every CPU core may have an encoder and a KV cache of its own."""
    projector = files.projector.stat().st_size if files.projector else 0
    return files.model.stat().st_size + projector < 64 * 2**20


def open_on_llama(
    preset: Preset, parameters: LlamaClassifyParameters, files: GgufModel, labels: LabelSet | None, strict: bool
) -> Classifier:
    """Load the model; see :func:`fastinfer.classifier`."""
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
        decode_in=parameters.decode_in,
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
