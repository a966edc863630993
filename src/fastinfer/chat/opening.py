"""From a preset and a model's name to a running chat model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fastinfer.engines.cores import usable_cores
from fastinfer.models import EMBEDDED_CHAT, resolve_gguf
from fastinfer.preset_library import LlamaChatParameters, Preset, default_model
from fastinfer.preset_library import preset as find_preset
from fastinfer.provenance import Provenance, refuse_adjustments

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM

__all__ = ["llm"]

#: Candidates beyond those of the preset, so that a chat with a few biases needs not all scores.
_SPARE = 32
#: Slots up to which the device cuts the candidates, row by row. It beats reading back all scores and cutting them with
#: several threads: a step of 40 rows took 54.8 ms in place of 61.2 on an H200. More slots than this were not measured.
_MOST_CUTS = 64
#: Threads that choose tokens.
_MOST_THREADS = 8


def llm(
    preset: str | Preset = "embedded",
    *,
    model: str | os.PathLike[str] | None = None,
    strict: bool = False,
    **changes: Any,
) -> LLM:
    """Load a model for chat.

    Args:
        preset: a preset of kind "chat", or its name: ``"balanced"``, ``"low-latency"``, ``"long-context"`` for a GPU;
            ``"embedded"`` runs on any CPU with the model of the extra ``embedded-chat``.
        model: a path to a GGUF file or a folder with one, ``"org/repo:QUANT@revision"`` on the Hugging Face hub, or
            ``"embedded-chat"``; None takes FASTINFER_CHAT_MODEL, then the preset's own.
        strict: raise PresetError where the engine needs a value other than the preset's.
        **changes: parameters of the preset to change, as in ``preset.replace(**changes)``.

    Raises:
        PresetError: the preset is unknown, a changed value is illegal, or ``strict`` and an adjustment is needed.
        ModelNotFoundError: there is no such model.
        ModelLoadError: the model's files are damaged or incomplete, or it has no chat template and none was named.
        EngineUnavailableError: the engine or the device is not there.
        EngineOutOfMemoryError: there is not enough memory.
    """
    chosen = preset if isinstance(preset, Preset) else find_preset(preset, kind="chat")
    if changes:
        chosen = chosen.replace(**changes)
    name, _ = default_model("chat", chosen, model)
    parameters = chosen.parameters
    assert isinstance(parameters, LlamaChatParameters)
    files = resolve_gguf(name)

    # Imported here so that llama.cpp is loaded with the first model and not with the package.
    from fastinfer.chat.model import LLM
    from fastinfer.chat.options import sampling_of
    from fastinfer.engines.llama.chat import LlamaChatConfig, LlamaChatEngine, cut_for
    from fastinfer.prompts import find_template

    on_gpu = parameters.n_gpu_layers != 0 and parameters.device.upper() != "CPU"
    cut_on_device = on_gpu and parameters.parallel <= _MOST_CUTS
    engine = LlamaChatEngine(
        LlamaChatConfig(
            model=files.model,
            projector=files.projector,
            n_ctx=parameters.n_ctx,
            n_batch=parameters.n_batch,
            n_ubatch=parameters.n_ubatch,
            n_threads=parameters.n_threads or usable_cores(),
            n_gpu_layers=parameters.n_gpu_layers,
            device=parameters.device,
            flash_attn=parameters.flash_attn,
            type_k=parameters.type_k,
            type_v=parameters.type_v,
            parallel=parameters.parallel,
            kv_unified=parameters.kv_unified,
            cache_reuse=parameters.cache_reuse,
            prefill_budget=parameters.prefill_budget,
            prefill_delay=parameters.prefill_delay,
            max_queue=parameters.max_queue,
            # What is read back of each row are the candidates that the preset's own sampling can choose from.
            device_cut=cut_for(sampling_of(parameters), always=_SPARE) if cut_on_device else 0,
            sampling_threads=min(_MOST_THREADS, usable_cores() // 2) if on_gpu else 0,
            calibrate=on_gpu,
        )
    )
    try:
        with engine.vocabulary() as vocabulary:
            template = find_template(_template_name(parameters.chat_template, files.name), vocabulary)
        provenance = Provenance(
            engine=engine.name,
            model=files.name,
            preset=chosen.name,
            fingerprint=chosen.fingerprint,
            device=parameters.device if on_gpu else "CPU",
            kernel_path=engine.kernel_path,
            adjustments=engine.adjustments,
        )
        if strict:
            refuse_adjustments(chosen.name, engine.adjustments)
        return LLM(engine, template, preset=chosen, provenance=provenance, parallel=parameters.parallel)
    except BaseException:
        engine.close()
        raise


def _template_name(wanted: str, model: str) -> str:
    # A base model has no template of its own; the packaged one is known to answer well as a transcript.
    return "transcript" if wanted == "auto" and model == EMBEDDED_CHAT else wanted
