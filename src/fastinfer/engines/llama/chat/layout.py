"""How a KV cache is laid out for a number of slots."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.chat.config import LlamaChatConfig
from fastinfer.engines.llama.chat.memory import UnifiedMemory
from fastinfer.engines.llama.chat.partitions import PartitionedMemory
from fastinfer.engines.llama.chat.sampler import device_cut
from fastinfer.engines.llama.context import MAX_SEQUENCES, LlamaContext
from fastinfer.engines.llama.model import LlamaModel

__all__ = ["PADDING", "lay_out"]

#: Rows beyond the slots' that a step may be padded with; each takes a slot's cells where the cache is divided.
PADDING = {True: 4, False: 1}


def lay_out(
    model: LlamaModel, config: LlamaChatConfig, undo: ExitStack
) -> tuple[LlamaContext, UnifiedMemory | PartitionedMemory]:
    """The context for a configuration, and what keeps account of its sequences; ``undo`` frees it.

    Raises:
        EngineOutOfMemoryError: there is not enough memory.
    """
    slots = config.parallel
    whole_only = bool(llama.llama_model_is_recurrent(model.handle) or llama.llama_model_is_hybrid(model.handle))
    cuts: dict[int, Any] = {}
    undo.callback(_free_all, cuts)
    for sequence in range(slots if config.device_cut else 0):
        cuts[sequence] = device_cut(config.device_cut)
    padding = PADDING[config.kv_unified] if config.calibrate else 0
    if config.kv_unified:
        # Slots; with a cut on the device, as many again for requests that read all scores; what is kept; scratch.
        first_kept = slots * (2 if cuts else 1)
        kept = min(max(slots, 8), MAX_SEQUENCES - first_kept - 1)
        sequences, cells = first_kept + kept + 1, config.n_ctx
    else:
        sequences = slots + padding
        cells = config.n_ctx // slots * sequences
    context = LlamaContext(
        model,
        n_ctx=cells,
        # A step has a row for every slot at least, and those it is padded with; where the cache is divided, prompts too
        # get rows beside them, because these are computed apart.
        n_batch=max(config.n_batch, slots + padding) if config.kv_unified else config.n_batch + slots + padding,
        n_ubatch=config.n_ubatch,
        n_outputs=slots,
        n_threads=config.n_threads,
        flash_attn=config.flash_attn,
        type_k=config.type_k,
        type_v=config.type_v,
        n_sequences=sequences,
        unified=config.kv_unified,
        samplers=cuts,
    )
    undo.callback(context.close)
    if not config.kv_unified:
        return context, PartitionedMemory(
            context, slots=slots, cuts=cuts, chunk=config.cache_reuse, whole_only=whole_only
        )
    return context, UnifiedMemory(
        context,
        first_kept=first_kept,
        kept=kept,
        twin=slots if cuts else 0,
        reserved=slots + padding if padding else 0,
        chunk=config.cache_reuse,
        whole_only=whole_only,
    )


def _free_all(cuts: dict[int, Any]) -> None:
    for chain in cuts.values():
        llama.llama_sampler_free(chain)
    cuts.clear()
