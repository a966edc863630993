"""How a KV cache is laid out for a number of slots."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.chat.config import LlamaChatConfig
from fastinfer.engines.llama.chat.memory import UnifiedMemory
from fastinfer.engines.llama.chat.partitions import PartitionedMemory
from fastinfer.engines.llama.chat.sampler import device_cut
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.shape import MAX_SEQUENCES, ContextShape

__all__ = ["PADDING", "context_shape", "lay_out"]

#: Rows beyond the slots' that a step may be padded with; each takes a slot's cells where the cache is divided.
PADDING = {True: 4, False: 1}


def context_shape(config: LlamaChatConfig) -> ContextShape:
    """The sizes of the context for a configuration."""
    slots, padding = config.parallel, _padding(config)
    if config.kv_unified:
        first_kept = _first_kept(config)
        sequences = first_kept + min(max(slots, 8), MAX_SEQUENCES - first_kept - 1) + 1
        # A step has a row for every slot at least, and those it is padded with.
        cells, batch = config.n_ctx, max(config.n_batch, slots + padding)
    else:
        sequences = slots + padding
        # Prompts get rows beside those, because these are computed apart.
        cells, batch = config.n_ctx // slots * sequences, config.n_batch + slots + padding
    return ContextShape(
        n_ctx=cells,
        n_batch=batch,
        n_ubatch=config.n_ubatch,
        n_outputs=slots,
        flash_attn=config.flash_attn,
        type_k=config.type_k,
        type_v=config.type_v,
        n_sequences=sequences,
        unified=config.kv_unified,
        device_cut=config.device_cut,
    )


def lay_out(
    model: LlamaModel, config: LlamaChatConfig, undo: ExitStack
) -> tuple[LlamaContext, UnifiedMemory | PartitionedMemory]:
    """The context for a configuration, and what keeps account of its sequences; ``undo`` frees it.

    Raises:
        EngineOutOfMemoryError: there is not enough memory.
    """
    slots, shape = config.parallel, context_shape(config)
    whole_only = bool(llama.llama_model_is_recurrent(model.handle) or llama.llama_model_is_hybrid(model.handle))
    cuts: dict[int, Any] = {}
    undo.callback(_free_all, cuts)
    for sequence in range(slots if config.device_cut else 0):
        cuts[sequence] = device_cut(config.device_cut)
    context = LlamaContext(model, shape, n_threads=config.n_threads, samplers=cuts)
    undo.callback(context.close)
    if not config.kv_unified:
        return context, PartitionedMemory(
            context, slots=slots, cuts=cuts, chunk=config.cache_reuse, whole_only=whole_only
        )
    first_kept, padding = _first_kept(config), _padding(config)
    return context, UnifiedMemory(
        context,
        first_kept=first_kept,
        kept=shape.n_sequences - first_kept - 1,
        twin=slots if cuts else 0,
        reserved=slots + padding if padding else 0,
        chunk=config.cache_reuse,
        whole_only=whole_only,
    )


def _padding(config: LlamaChatConfig) -> int:
    return PADDING[config.kv_unified] if config.calibrate else 0


def _first_kept(config: LlamaChatConfig) -> int:
    """Sequences of a shared cache before those that are kept; after those comes one for scratch."""
    # With a cut on the device, as many again as there are slots for requests that read all scores.
    return config.parallel * (2 if config.device_cut else 1)


def _free_all(cuts: dict[int, Any]) -> None:
    for chain in cuts.values():
        llama.llama_sampler_free(chain)
    cuts.clear()
