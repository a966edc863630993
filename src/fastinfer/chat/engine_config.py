"""What llama.cpp's chat engine gets for a preset; nothing is loaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastinfer.engines.cores import usable_cores
from fastinfer.preset_library import LlamaChatParameters

if TYPE_CHECKING:
    from fastinfer.engines.llama.chat import LlamaChatConfig

__all__ = ["engine_config"]

#: Candidates beyond those of the preset, so that a chat with a few biases needs not all scores.
_SPARE = 32
#: Slots up to which the device cuts the candidates, row by row. It beats reading back all scores and cutting them with
#: several threads: a step of 40 rows took 54.8 ms in place of 61.2 on an H200. More slots than this were not measured.
_MOST_CUTS = 64
#: Threads that choose tokens.
_MOST_THREADS = 8


def engine_config(parameters: LlamaChatParameters, model: Path, projector: Path | None) -> LlamaChatConfig:
    """What the engine gets for a preset.

    Args:
        parameters: the preset's.
        model: the GGUF file.
        projector: the vision projector's, or None.
    """
    from fastinfer.chat.options import sampling_of
    from fastinfer.engines.llama.chat import LlamaChatConfig, cut_for

    on_gpu = parameters.uses_gpu
    cut_on_device = on_gpu and parameters.parallel <= _MOST_CUTS
    return LlamaChatConfig(
        model=model,
        projector=projector,
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
