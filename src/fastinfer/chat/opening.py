"""From a preset and a model's name to a running chat model."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastinfer.chat.engine_config import engine_config
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.policy import IN_PROCESS_OF_ITS_OWN, Keeping, keeping
from fastinfer.models import EMBEDDED_CHAT, GgufModel, resolve_gguf
from fastinfer.planning.fitting import OnOom, check_on_oom, open_fitting
from fastinfer.preset_library import LlamaChatParameters, Preset, as_preset, default_model
from fastinfer.provenance import Adjustment, Provenance, refuse_adjustments
from fastinfer.watching.roll import named

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM
    from fastinfer.engines.chat import ChatEngine
    from fastinfer.engines.llama.chat import LlamaChatConfig

__all__ = ["llm"]


def llm(
    preset: str | Preset = "embedded",
    *,
    model: str | os.PathLike[str] | None = None,
    strict: bool = False,
    on_oom: OnOom = "raise",
    alias: str | None = None,
    isolate: bool | None = None,
    step_timeout: float | None = None,
    load_timeout: float | None = None,
    **changes: Any,
) -> LLM:
    """Load a model for chat.

    Args:
        preset: a preset of kind "chat", or its name: ``"balanced"``, ``"low-latency"``, ``"long-context"`` for a GPU;
            ``"embedded"`` runs on any CPU with the model of the extra ``embedded-chat``.
        model: a path to a GGUF file or a folder with one, ``"org/repo:QUANT@revision"`` on the Hugging Face hub, or
            ``"embedded-chat"``; None takes FASTINFER_CHAT_MODEL, then the preset's own.
        strict: raise PresetError where the engine needs a value other than the preset's.
        on_oom: where memory is short, ``"raise"`` gives an error that names the first step that would fit;
            ``"adapt"`` takes the documented steps one by one (n_ubatch, then parallel, then n_ctx) until one does, each
            of them an adjustment in the provenance. On an NVIDIA GPU the plan decides, before llama.cpp could end the
            process.
        alias: the name it goes by in metrics and logs; None takes the preset's name, numbered where an open engine has
            that already.
        isolate: run the engine in a process of its own. What ends that process (a native abort, a CUDA error, the
            kernel where memory runs out) does not end this one: it is started again, and work of which nothing was seen
            yet is repeated. None takes FASTINFER_ISOLATE (1 or 0), and without that variable False.
        step_timeout: seconds after which a step of the engine counts as hanging. Everyone who waits gets
            EngineDeadError, which says where it stands; with ``isolate`` the engine is then started again. None takes
            600 on a GPU and 3600 on a CPU.
        load_timeout: with ``isolate``, seconds that loading may take; None takes 1800.
        **changes: parameters of the preset to change, as in ``preset.replace(**changes)``.

    Raises:
        PresetError: the preset is unknown, a changed value is illegal, or ``strict`` and an adjustment is needed.
        ModelNotFoundError: there is no such model.
        ModelLoadError: the model's files are damaged or incomplete, or it has no chat template and none was named.
        EngineUnavailableError: the engine or the device is not there.
        EngineOutOfMemoryError: there is not enough memory.
        EngineDeadError: ``isolate``, and the engine's process died while it was loading.
        RequestTimeoutError: loading took longer than ``load_timeout``.
        FastInferError: an open engine has this alias.
    """
    chosen = as_preset(preset, "chat")
    if changes:
        chosen = chosen.replace(**changes)
    check_on_oom(on_oom, strict=strict)
    name, _ = default_model("chat", chosen, model)
    parameters = chosen.parameters
    assert isinstance(parameters, LlamaChatParameters)
    kept = keeping(isolate, step_timeout, load_timeout, on_gpu=parameters.uses_gpu, by_default=False)
    files = resolve_gguf(name)

    def open_with(fitting: Preset, adjustments: tuple[Adjustment, ...]) -> LLM:
        return _open(chosen, fitting, files, adjustments, kept, alias=called, strict=strict)

    with named(alias, chosen.name) as called:
        return open_fitting(chosen, name, open_with, on_oom=on_oom, plan_first=parameters.uses_gpu)


def _open(
    asked: Preset,
    fitting: Preset,
    files: GgufModel,
    adjustments: tuple[Adjustment, ...],
    kept: Keeping,
    *,
    alias: str,
    strict: bool,
) -> LLM:
    """Load the files with the preset that fits, in the name of the one that was asked for."""
    # Imported here so that llama.cpp is loaded with the first model and not with the package.
    from fastinfer.chat.model import LLM
    from fastinfer.prompts import find_template

    parameters = fitting.parameters
    assert isinstance(parameters, LlamaChatParameters)
    engine = _open_engine(engine_config(parameters, files.model, files.projector), kept)
    try:
        engine.limit_steps(kept.step_timeout)
        with engine.vocabulary() as vocabulary:
            template = find_template(_template_name(parameters.chat_template, files.name), vocabulary)
        provenance = Provenance(
            engine=engine.name,
            model=files.name,
            preset=asked.name,
            fingerprint=asked.fingerprint,
            device=parameters.device if parameters.uses_gpu else "CPU",
            kernel_path=engine.kernel_path + (IN_PROCESS_OF_ITS_OWN if kept.isolate else ""),
            adjustments=(*adjustments, *engine.adjustments),
        )
        if strict:
            refuse_adjustments(asked.name, engine.adjustments)
        return LLM(engine, template, preset=asked, provenance=provenance, parallel=parameters.parallel, alias=alias)
    except BaseException:
        engine.close()
        raise


def _open_engine(config: LlamaChatConfig, kept: Keeping) -> ChatEngine:
    # Imported here so that nothing of it is loaded with the package, and llama.cpp only where it runs.
    if kept.isolate:
        from fastinfer.engines.isolated.chat import IsolatedChatEngine

        # This side keeps the queue's limit. Over there it is never reached, whatever is on its way between the two.
        unlimited = replace(config, max_queue=sys.maxsize)
        opener = Opener(
            "chat", "fastinfer.engines.llama.chat.engine", "LlamaChatEngine", (unlimited,), first=("llama_cpp",)
        )
        return IsolatedChatEngine(
            opener, slots=config.parallel, max_queue=config.max_queue, n_ctx=config.n_ctx, patience=kept.patience
        )
    from fastinfer.engines.llama.chat.engine import LlamaChatEngine

    return LlamaChatEngine(config)


def _template_name(wanted: str, model: str) -> str:
    # A base model has no template of its own; the packaged one is known to answer well as a transcript.
    return "transcript" if wanted == "auto" and model == EMBEDDED_CHAT else wanted
