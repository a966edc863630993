"""A classifier on LMDeploy's TurboMind: from a preset and a checkpoint in Hugging Face's form."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.labels import LabelSet
from fastinfer.engines.base import ClassifyEngine
from fastinfer.engines.cores import usable_cores
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.policy import IN_PROCESS_OF_ITS_OWN, Keeping
from fastinfer.engines.replicas import ReplicatedEngine
from fastinfer.models import CheckpointInfo, describe_checkpoint, resolve_checkpoint
from fastinfer.preset_library import Preset, TurbomindClassifyParameters
from fastinfer.provenance import Adjustment, Provenance, refuse_adjustments

if TYPE_CHECKING:
    from fastinfer.engines.turbomind.pipeline_model import ImageLimits
    from fastinfer.engines.turbomind.settings import EngineSettings

__all__ = ["open_on_turbomind"]

#: Decoding workers unless the preset says otherwise. On 16 cores beside an H200, with the smallest model, 6 and 8
#: processes were equally fast and 12 by 7 % faster; of threads 6 to 16 were equally fast.
_MOST_DECODERS = 8


def open_on_turbomind(
    preset: Preset,
    parameters: TurbomindClassifyParameters,
    model: str | os.PathLike[str],
    labels: LabelSet | None,
    adjusted: tuple[Adjustment, ...],
    kept: Keeping,
    *,
    alias: str,
    strict: bool,
) -> Classifier:
    """Load the model; see :func:`fastinfer.classifier`. What can be refused is refused before it is loaded.

    Args:
        preset: as it was asked for.
        parameters: those to use.
        model: the checkpoint's name.
        labels: to choose from.
        adjusted: how ``parameters`` differ from the preset's.
        kept: in which process, and how long steps may take.
        alias: the name it goes by.
        strict: nothing may be adjusted.
    """
    # Imported here so that none of it is loaded with the package.
    from fastinfer.engines.turbomind.gpus import gpus
    from fastinfer.engines.turbomind.importing import check_installed, import_lmdeploy
    from fastinfer.engines.turbomind.pipeline_model import ImageLimits
    from fastinfer.engines.turbomind.preflight import check_architecture, check_gpus, check_image_tokens, check_model
    from fastinfer.engines.turbomind.settings import effective_settings, replica_devices

    present = gpus()  # before gigabytes are fetched for a machine that cannot use them
    if kept.isolate:
        check_installed()  # likewise; loaded where it runs
    else:
        import_lmdeploy()
    checkpoint = resolve_checkpoint(model, remote_code=parameters.trust_remote_code)
    check_architecture(checkpoint.folder)
    info = describe_checkpoint(checkpoint.folder)
    check_model(info, trust_remote_code=parameters.trust_remote_code)
    groups = replica_devices(parameters)
    bfloat16 = check_gpus(present, [device for group in groups for device in group], info, parameters.tp)
    settings, adjustments = effective_settings(parameters, info, devices=groups[0], bfloat16=bfloat16)
    # Where an image is cut, the whole of it follows as one more tile.
    tiles = parameters.max_tiles + 1 if parameters.max_tiles > 1 else 1
    check_image_tokens(info, settings, tiles * (info.image_tokens or 0))
    if strict:
        refuse_adjustments(preset.name, adjustments)

    limits = ImageLimits(parameters.max_tiles, parameters.min_image_pixels, parameters.max_image_pixels)
    engines: list[ClassifyEngine] = []
    try:
        for group in groups:
            engines.append(
                _open(
                    info,
                    replace(settings, devices=group),
                    limits,
                    kept,
                    label_tolerance=parameters.label_tolerance,
                    trust_remote_code=parameters.trust_remote_code,
                )
            )
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    engine = engines[0] if len(engines) == 1 else ReplicatedEngine(engines)
    engine.limit_steps(kept.step_timeout)
    decode_workers = parameters.decode_workers or min(usable_cores(), _MOST_DECODERS)
    description = engine.description
    replicas = f", {len(engines)} replicas" if len(engines) > 1 else ""
    has_code = info.needs_remote_code or bool(info.code_beside)
    code = ", code of the checkpoint was run" if has_code and parameters.trust_remote_code else ""
    return Classifier(
        engine,
        preset=preset,
        provenance=Provenance(
            engine=description.engine,
            model=checkpoint.name,
            preset=preset.name,
            fingerprint=preset.fingerprint,
            device=description.device,
            kernel_path=f"one prefill an image, {description.path}{replicas}{code}"
            + (IN_PROCESS_OF_ITS_OWN if kept.isolate else ""),
            adjustments=(*adjusted, *adjustments),
        ),
        prompt=parameters.prompt,
        open_prompt=parameters.open_prompt,
        max_label_tokens=parameters.max_label_tokens,
        max_pixels=parameters.max_pixels,
        # As many as may be in work, and others ready to take their places.
        ahead=parameters.max_concurrent_requests + 2 * decode_workers,
        decode_workers=decode_workers,
        decode_in=parameters.decode_in,
        labels=labels,
        alias=alias,
        most_at_once=parameters.max_concurrent_requests,
    )


def _open(
    info: CheckpointInfo, settings: EngineSettings, limits: ImageLimits, kept: Keeping, **options: Any
) -> ClassifyEngine:
    from fastinfer.engines.turbomind.opening import open_engine, preparation_of

    if kept.isolate:
        from fastinfer.engines.isolated.classify import IsolatedClassifyEngine

        keywords = {"limits": limits, **options}
        opener = Opener("classify", open_engine.__module__, open_engine.__name__, (info, settings), keywords)
        return IsolatedClassifyEngine(opener, preparation=partial(preparation_of, info, limits), patience=kept.patience)
    return open_engine(info, settings, limits=limits, **options)
