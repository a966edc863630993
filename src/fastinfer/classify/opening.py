"""From a preset and a model's name to a running classifier."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.labels import check_labels
from fastinfer.classify.on_llama import open_on_llama
from fastinfer.classify.on_turbomind import open_on_turbomind
from fastinfer.engines.isolated.policy import in_notebook, keeping
from fastinfer.models import resolve_gguf
from fastinfer.planning.fitting import OnOom, check_on_oom, open_fitting
from fastinfer.preset_library import (
    LlamaClassifyParameters,
    Preset,
    TurbomindClassifyParameters,
    as_preset,
    default_model,
)
from fastinfer.provenance import Adjustment
from fastinfer.watching.roll import named

__all__ = ["classifier"]


def classifier(
    preset: str | Preset = "embedded",
    *,
    labels: Iterable[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    strict: bool = False,
    on_oom: OnOom = "raise",
    alias: str | None = None,
    isolate: bool | None = None,
    step_timeout: float | None = None,
    load_timeout: float | None = None,
    **changes: Any,
) -> Classifier:
    """Load a model for classification.

    Args:
        preset: a preset of kind "classify", or its name. ``"embedded"`` runs on any CPU with the model in the package,
            ``"prod"`` and ``"prod-exact"`` on NVIDIA GPUs with LMDeploy's TurboMind.
        labels: 1 to 1000 labels to choose from; None lets the model name what it sees. Can be changed later.
        model: for llama.cpp ``"embedded"``, a path to a GGUF file or a folder with one, or
            ``"org/repo:QUANT@revision"`` on the Hugging Face hub; for TurboMind a folder with a checkpoint in Hugging
            Face's form, or ``"org/repo@revision"``. None takes FASTINFER_CLASSIFY_MODEL, then the preset's own.
        strict: raise PresetError where the engine would need a value other than the preset's.
        on_oom: where memory is short, ``"raise"`` gives an error that names the first step that would fit;
            ``"adapt"`` takes the documented steps one by one (batch sizes, then the cache) until one does, each of them
            an adjustment in the provenance.
        alias: the name it goes by in metrics and logs; None takes the preset's name, numbered where an open engine has
            that already.
        isolate: run the engine in a process of its own. What ends that process (a native abort, a CUDA error, the
            kernel where memory runs out) does not end this one: it is started again, and work of which nothing was seen
            yet is repeated. None takes FASTINFER_ISOLATE (1 or 0), and without that variable does so for TurboMind in a
            notebook, whose kernel it would end.
        step_timeout: seconds after which a step of the engine counts as hanging. Everyone who waits gets
            EngineDeadError, which says where it stands; with ``isolate`` the engine is then started again. None takes
            600 on a GPU and 3600 on a CPU.
        load_timeout: with ``isolate``, seconds that loading may take; None takes 1800.
        **changes: parameters of the preset to change, as in ``preset.replace(**changes)``.

    Raises:
        PresetError: the preset is unknown, a changed value is illegal, or ``strict`` and an adjustment is needed.
        LabelError: the labels cannot be scored.
        ModelNotFoundError: there is no such model.
        ModelLoadError: the model's files are damaged, incomplete, or not of a vision model.
        EngineUnavailableError: the engine cannot run here, or not this model.
        PromptTooLongError: an image alone is longer than the preset's session_len.
        EngineOutOfMemoryError: there is not enough memory.
        EngineDeadError: ``isolate``, and the engine's process died while it was loading.
        RequestTimeoutError: loading took longer than ``load_timeout``.
        FastInferError: an open engine has this alias.
    """
    checked = None if labels is None else check_labels(labels)
    chosen = as_preset(preset, "classify")
    if changes:
        chosen = chosen.replace(**changes)
    check_on_oom(on_oom, strict=strict)
    name, _ = default_model("classify", chosen, model)
    parameters = chosen.parameters
    on_llama = isinstance(parameters, LlamaClassifyParameters)
    kept = keeping(
        isolate,
        step_timeout,
        load_timeout,
        on_gpu=not isinstance(parameters, LlamaClassifyParameters) or parameters.uses_gpu,
        by_default=not on_llama and in_notebook(),
    )
    if on_llama:
        files = resolve_gguf(name)

    def open_with(fitting: Preset, adjustments: tuple[Adjustment, ...]) -> Classifier:
        used = fitting.parameters
        if isinstance(used, TurbomindClassifyParameters):
            return open_on_turbomind(chosen, used, name, checked, adjustments, kept, alias=called, strict=strict)
        assert isinstance(used, LlamaClassifyParameters)
        return open_on_llama(chosen, used, files, checked, adjustments, kept, alias=called, strict=strict)

    # TurboMind's own check comes first anyway, and is careful.
    first = isinstance(parameters, LlamaClassifyParameters) and parameters.uses_gpu
    with named(alias, chosen.name) as called:
        return open_fitting(chosen, name, open_with, on_oom=on_oom, plan_first=first)
