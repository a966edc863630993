"""A classifier on llama.cpp: from a preset and the files of a GGUF model."""

from __future__ import annotations

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.engine_config import ImageInput, engine_config, is_small
from fastinfer.classify.labels import LabelSet
from fastinfer.engines.base import GroupingEngine
from fastinfer.engines.cores import usable_cores
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.policy import IN_PROCESS_OF_ITS_OWN, Keeping
from fastinfer.engines.llama.classify_config import LlamaClassifyConfig
from fastinfer.models import GgufModel, check_gguf, without_projector
from fastinfer.preset_library import LlamaClassifyParameters, Preset
from fastinfer.provenance import Adjustment, Provenance, refuse_adjustments

__all__ = ["open_on_llama"]


def open_on_llama(
    preset: Preset,
    parameters: LlamaClassifyParameters,
    files: GgufModel,
    labels: LabelSet | None,
    adjusted: tuple[Adjustment, ...],
    kept: Keeping,
    *,
    alias: str,
    strict: bool,
) -> Classifier:
    """Load the model; see :func:`fastinfer.classifier`.

    Args:
        preset: as it was asked for.
        parameters: those to use.
        files: the model.
        labels: to choose from.
        adjusted: how ``parameters`` differ from the preset's.
        kept: in which process, and how long steps may take.
        alias: the name it goes by.
        strict: nothing may be adjusted.
    """
    if files.projector is None:
        raise without_projector(files.name)
    image = ImageInput.read(check_gguf(files.projector))
    adjustments = image.adjustments()
    if strict:
        refuse_adjustments(preset.name, adjustments)

    small = is_small(files.model.stat().st_size, files.projector.stat().st_size)
    config = engine_config(parameters, files.model, files.projector, image, small=small)
    engine = _open(config, kept)
    engine.limit_steps(kept.step_timeout)
    workers = config.workers
    decode_workers = parameters.decode_workers or usable_cores()
    description = engine.description
    provenance = Provenance(
        engine=description.engine,
        model=files.name,
        preset=preset.name,
        fingerprint=preset.fingerprint,
        device=description.device,
        kernel_path=("images encoded in batches" if description.batched_images else "images encoded one by one")
        + f", {workers} worker{'s' if workers > 1 else ''}"
        + (IN_PROCESS_OF_ITS_OWN if kept.isolate else ""),
        adjustments=(*adjusted, *adjustments),
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
        alias=alias,
        groups=engine,
    )


def _open(config: LlamaClassifyConfig, kept: Keeping) -> GroupingEngine:
    # Imported here so that nothing of it is loaded with the package, and llama.cpp only where it runs.
    if kept.isolate:
        from fastinfer.engines.isolated.classify import IsolatedClassifyEngine

        opener = Opener(
            "classify", "fastinfer.engines.llama.classify", "LlamaClassifyEngine", (config,), first=("llama_cpp",)
        )
        return IsolatedClassifyEngine(opener, patience=kept.patience)
    from fastinfer.engines.llama.classify import LlamaClassifyEngine

    return LlamaClassifyEngine(config)
