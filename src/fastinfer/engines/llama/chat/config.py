"""What the chat engine needs to start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["LlamaChatConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaChatConfig:
    """Files, sizes and policies of a chat engine.

    Attributes:
        model: the GGUF file.
        projector: the vision projector's GGUF file, or None.
        n_ctx: cells of the KV cache, over all slots.
        n_batch, n_ubatch: most tokens of a decode call, and of one computation.
        n_threads: CPU threads.
        n_gpu_layers: layers on the GPU; -1 all.
        device: the device's name, such as ``"CUDA0"`` or ``"CPU"``.
        flash_attn: use flash attention.
        type_k, type_v: types of the KV cache.
        parallel: slots.
        kv_unified: all slots share the cells of the cache; else each has ``n_ctx / parallel`` of its own.
        cache_reuse: shortest stretch of a kept conversation to be moved and used elsewhere; 0 none.
        prefill_budget: prompt tokens in a step beside running replies; 0 chosen from measured times.
        prefill_delay: steps for each in which prompts are evaluated beside replies, many together; 0 in every step.
        max_queue: requests that may wait.
        device_cut: candidates that the device leaves of each row; 0 reads back all scores.
        sampling_threads: threads that choose tokens side by side; below 2 the engine's own does it.
        calibrate: measure at the start which number of rows a step has best.
    """

    model: Path
    projector: Path | None
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int
    n_gpu_layers: int
    device: str
    flash_attn: bool
    type_k: str
    type_v: str
    parallel: int
    kv_unified: bool
    cache_reuse: int
    prefill_budget: int
    prefill_delay: int
    max_queue: int
    device_cut: int
    sampling_threads: int
    calibrate: bool
