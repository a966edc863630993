"""A llama.cpp context: the KV cache with its sequences, and batches filled from numpy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.errors import EngineError, EngineOutOfMemoryError

__all__ = ["CACHE_TYPES", "MAX_SEQUENCES", "LlamaContext"]

#: LLAMA_MAX_SEQ of llama.cpp.
MAX_SEQUENCES = 256
#: ggml's numbers of the types that a KV cache may have.
CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class LlamaContext:
    """One unified KV cache of ``n_ctx`` cells shared by up to 256 sequences. For one thread only.

    Args:
        model: the weights.
        n_ctx: cells of the cache, in tokens over all sequences.
        n_batch: most tokens a decode call takes.
        n_ubatch: most tokens computed at once.
        n_outputs: most next-token scores read from one decode call.
        n_threads: CPU threads.
        flash_attn: use flash attention.
        type_k, type_v: types of the cache, a key of :data:`CACHE_TYPES`.

    Raises:
        EngineOutOfMemoryError: the cache or the buffers cannot be allocated.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_ctx: int,
        n_batch: int,
        n_ubatch: int,
        n_outputs: int,
        n_threads: int,
        flash_attn: bool,
        type_k: str,
        type_v: str,
    ) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_ubatch
        # llama.cpp ends the process where there is no room for an output of every sequence.
        params.n_seq_max, params.n_outputs_max = MAX_SEQUENCES, max(n_outputs, MAX_SEQUENCES)
        params.n_threads = params.n_threads_batch = n_threads
        params.flash_attn_type = 1 if flash_attn else 0
        params.type_k, params.type_v = CACHE_TYPES[type_k], CACHE_TYPES[type_v]
        params.kv_unified = True
        params.no_perf = True
        self.handle: Any = llama.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise EngineOutOfMemoryError(
                f"llama.cpp could not create a context of {n_ctx} tokens.", hint="Lower n_ctx or n_batch."
            )
        self._memory: Any = llama.llama_get_memory(self.handle)
        self.n_batch, self.n_outputs, self.n_ctx = n_batch, n_outputs, n_ctx
        self._vocabulary_size = model.vocabulary_size
        # One sequence a token: pointers into an array of ids, built once.
        self._ids: Ints = np.zeros(n_batch, np.int32)
        base = self._ids.ctypes.data
        self._id_pointers = (base + 4 * np.arange(n_batch, dtype=np.uint64)).astype(np.uint64)
        self._ones: Ints = np.ones(n_batch, np.int32)

    def close(self) -> None:
        """Free the cache. Idempotent."""
        if self.handle:
            llama.llama_free(self.handle)
            self.handle = None

    def copy(self, source: int, target: int) -> None:
        """Let the sequence ``target`` continue from all of ``source``; nothing is moved in a unified cache."""
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def remove(self, sequence: int) -> None:
        """Forget a sequence."""
        llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        """Forget all sequences."""
        llama.llama_memory_clear(self._memory, False)

    def decode_tokens(self, tokens: Ints, positions: Ints, sequences: Ints, wanted: npt.NDArray[np.int8]) -> Floats:
        """Evaluate tokens, one sequence each.

        Args:
            tokens, positions, sequences: (n,) int32 each; n at most ``n_batch``.
            wanted: (n,) int8, 1 where next-token scores are wanted; at most ``n_outputs`` of them.

        Returns:
            Scores (wanted, vocabulary) float32, in order; a view that the next call overwrites.
        """
        self._decode(tokens, None, positions, sequences, wanted)
        rows = int(wanted.sum())
        if not rows:
            return np.empty((0, self._vocabulary_size), np.float32)
        logits = llama.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(logits, shape=(rows, self._vocabulary_size))

    def decode_embeddings(self, embeddings: Floats, positions: Ints, sequences: Ints) -> None:
        """Evaluate embeddings (n, width) float32, one sequence each; no scores are read."""
        self._decode(None, embeddings, positions, sequences, np.zeros(len(positions), np.int8))

    def _decode(
        self,
        tokens: Ints | None,
        embeddings: Floats | None,
        positions: Ints,
        sequences: Ints,
        wanted: npt.NDArray[np.int8],
    ) -> None:
        count = len(positions)
        # llama.cpp ends the process on these two, so they are checked here.
        if count > self.n_batch or int(wanted.sum()) > self.n_outputs:
            raise RuntimeError(f"batch of {count} tokens and {int(wanted.sum())} outputs is over the limit")
        self._ids[:count] = sequences
        batch = llama.llama_batch(
            n_tokens=count,
            token=None if tokens is None else tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            embd=None if embeddings is None else embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            pos=positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=self._ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=ctypes.cast(self._id_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        code = llama.llama_decode(self.handle, batch)
        if code:
            raise EngineError(f"llama.cpp could not evaluate a batch of {count} tokens (code {code}).")
        llama.llama_synchronize(self.handle)
