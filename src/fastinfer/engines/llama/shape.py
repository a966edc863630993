"""The sizes of a llama.cpp context; nothing of llama.cpp is loaded for them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_SEQUENCES", "ContextShape"]

#: LLAMA_MAX_SEQ of llama.cpp.
MAX_SEQUENCES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextShape:
    """What decides how much memory a context takes.

    Attributes:
        n_ctx: cells of the KV cache, in tokens over all sequences.
        n_batch: most tokens a decode call takes.
        n_ubatch: most tokens computed at once.
        n_outputs: most next-token scores read from one decode call.
        flash_attn: use flash attention.
        type_k, type_v: types of the cache, a key of :data:`fastinfer.engines.llama.context.CACHE_TYPES`.
        n_sequences: ids of sequences, 0 to ``n_sequences`` - 1.
        unified: all sequences share the cells; else each has ``n_ctx / n_sequences`` of its own.
        device_cut: candidates that the device leaves of each row in the first ``n_outputs`` sequences; 0 leaves all.
    """

    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_outputs: int
    flash_attn: bool
    type_k: str
    type_v: str
    n_sequences: int = MAX_SEQUENCES
    unified: bool = True
    device_cut: int = 0
