"""What the classification engine needs to start; nothing is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastinfer.engines.llama.shape import ContextShape

__all__ = ["LlamaClassifyConfig", "context_shape", "threads_of_workers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaClassifyConfig:
    """What the engine needs to start.

    Attributes:
        model, projector: the two GGUF files.
        n_ctx: cells of the KV cache, shared by the images of a batch and their labels.
        n_batch, n_ubatch: most tokens of a decode call, and of one computation.
        n_threads: CPU threads, shared by the workers.
        workers: batches computed side by side; with more than one, an image that is alone has all threads.
        n_gpu_layers: layers on the GPU; -1 all.
        flash_attn: use flash attention.
        type_k, type_v: types of the KV cache.
        batch_images: most images computed together.
        image_size: (width, height) that images come in, or None for any size.
        image_tokens: tokens of an image of ``image_size``, or None where it varies.
    """

    model: Path
    projector: Path
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int
    workers: int
    n_gpu_layers: int
    flash_attn: bool
    type_k: str
    type_v: str
    batch_images: int
    image_size: tuple[int, int] | None
    image_tokens: int | None


def context_shape(config: LlamaClassifyConfig) -> ContextShape:
    """The sizes of the context that each worker has."""
    return ContextShape(
        n_ctx=config.n_ctx,
        n_batch=config.n_batch,
        n_ubatch=config.n_ubatch,
        n_outputs=min(config.n_batch, 512),
        flash_attn=config.flash_attn,
        type_k=config.type_k,
        type_v=config.type_v,
    )


def threads_of_workers(config: LlamaClassifyConfig) -> list[int]:
    """CPU threads of each worker; with several, the last one has all for an image that is alone."""
    alone = [config.n_threads] if config.workers > 1 else []
    return [max(1, config.n_threads // config.workers)] * config.workers + alone
