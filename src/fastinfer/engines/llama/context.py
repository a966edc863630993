"""A llama.cpp context: the KV cache with its sequences, and batches filled from numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastinfer.engines.llama.binding import llama, quick
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.errors import EngineError, EngineOutOfMemoryError

__all__ = ["CACHE_TYPES", "LlamaContext", "Rows", "decode_error"]

#: ggml's numbers of the types that a KV cache may have.
CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}

#: llama_decode's code for GGML_STATUS_ALLOC_FAILED.
_NO_MEMORY = -2

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class LlamaContext:
    """A KV cache of ``n_ctx`` cells with its sequences. For one thread only.

    Args:
        model: the weights.
        shape: the sizes. What is cut on the device comes with ``samplers``.
        n_threads: CPU threads.
        samplers: chain of samplers by sequence, which run on the device and leave only their candidates to be read.

    Raises:
        EngineOutOfMemoryError: the cache or the buffers cannot be allocated.
    """

    def __init__(
        self, model: LlamaModel, shape: ContextShape, *, n_threads: int, samplers: Mapping[int, Any] | None = None
    ) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = shape.n_ctx, shape.n_batch, shape.n_ubatch
        # llama.cpp ends the process where there is no room for an output of every sequence.
        params.n_seq_max, params.n_outputs_max = shape.n_sequences, max(shape.n_outputs, shape.n_sequences)
        params.n_threads = params.n_threads_batch = n_threads
        params.flash_attn_type = 1 if shape.flash_attn else 0
        params.type_k, params.type_v = CACHE_TYPES[shape.type_k], CACHE_TYPES[shape.type_v]
        params.kv_unified = shape.unified
        params.no_perf = True
        if samplers:
            attached = [(sequence, ctypes.cast(chain, ctypes.c_void_p)) for sequence, chain in samplers.items()]
            params.samplers = (llama.llama_sampler_seq_config * len(samplers))(*attached)
            params.n_samplers = len(samplers)
            params.n_outputs_max_per_seq = 1
        self.handle: Any = llama.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise EngineOutOfMemoryError(
                f"llama.cpp could not create a context of {shape.n_ctx} tokens.", hint="Lower n_ctx or n_batch."
            )
        self._memory: Any = llama.llama_get_memory(self.handle)
        self.n_batch, self.n_ubatch, self.n_outputs = shape.n_batch, shape.n_ubatch, shape.n_outputs
        self.n_ctx, self.n_sequences = shape.n_ctx, shape.n_sequences
        #: Most tokens of one sequence.
        self.sequence_limit = int(llama.llama_n_ctx_seq(self.handle))
        self._vocabulary_size = model.vocabulary_size
        self._window = int(llama.llama_model_n_swa(model.handle))
        self.rows = Rows(shape.n_batch)

    def close(self) -> None:
        """Free the cache. Idempotent."""
        if self.handle:
            llama.llama_free(self.handle)
            self.handle = None

    def copy(self, source: int, target: int, length: int = -1) -> None:
        """Let the sequence ``target`` continue from the first ``length`` positions of ``source``; -1 from all of it.

        In a unified cache nothing is moved: the cells belong to both.
        """
        quick.llama_memory_seq_cp(self._memory, source, target, -1 if length < 0 else 0, length)

    def remove(self, sequence: int, start: int = -1, end: int = -1) -> bool:
        """Forget the positions from ``start`` to before ``end`` of a sequence; -1 means from the first, to the last.

        Returns:
            False where the model's memory cannot forget a part; then nothing has changed.
        """
        return bool(quick.llama_memory_seq_rm(self._memory, sequence, start, end))

    def shift(self, sequence: int, start: int, end: int, by: int) -> None:
        """Move the positions from ``start`` to before ``end`` of a sequence by ``by``."""
        quick.llama_memory_seq_add(self._memory, sequence, start, end, by)

    def last_position(self, sequence: int) -> int:
        """The last position that a sequence holds, or -1."""
        return int(llama.llama_memory_seq_pos_max(self._memory, sequence))

    def attach(self, sequence: int, chain: Any) -> None:
        """Have the device run a chain of samplers on a sequence's scores, or none with None. Takes milliseconds."""
        llama.llama_set_sampler(self.handle, sequence, chain)

    def holds(self, sequence: int, end: int) -> bool:
        """A sequence can be continued from a position: it still has all that a token there looks back on.

        In layers with a sliding window, llama.cpp gives cells that are out of a sequence's last window to others.
        """
        if not self._window:
            return True
        return int(llama.llama_memory_seq_pos_min(self._memory, sequence)) <= max(0, end - self._window)

    @property
    def can_shift(self) -> bool:
        """Positions can be moved."""
        return bool(llama.llama_memory_can_shift(self._memory))

    @property
    def graphs_reused(self) -> int:
        """Computations that could keep the compute graph of the one before."""
        return int(llama.llama_perf_context(self.handle).n_reused)

    def clear(self) -> None:
        """Forget all sequences."""
        llama.llama_memory_clear(self._memory, False)

    def decode(
        self,
        count: int,
        embeddings: Floats | None = None,
        positions: Ints | None = None,
        *,
        looks_ahead: bool = False,
    ) -> int:
        """Evaluate the first ``count`` of :attr:`rows`, all of them or none where it fails.

        Args:
            count: rows, 1 to ``n_batch``.
            embeddings: (count, width) float32, contiguous, in place of the rows' tokens.
            positions: (count,) or (dimensions, count) int32, contiguous, in place of the rows' positions.
            looks_ahead: rows of a sequence see each other, also those after them; at most ``n_ubatch`` rows.

        Returns:
            llama_decode's code: 0 done; 1 no room, nothing has changed; 2 aborted; negative an error.
        """
        # llama.cpp ends the process on this one.
        most = self.n_ubatch if looks_ahead else self.n_batch
        if not 0 < count <= most:
            raise RuntimeError(f"a batch of {count} tokens; the limit is {most}")
        if embeddings is None:
            return int(llama.llama_decode(self.handle, self.rows.batch(count)))
        llama.llama_set_causal_attn(self.handle, not looks_ahead)
        try:
            return int(llama.llama_decode(self.handle, self.rows.batch(count, embeddings, positions)))
        finally:
            llama.llama_set_causal_attn(self.handle, True)

    def wait(self) -> None:
        """Wait until the last batch is computed."""
        llama.llama_synchronize(self.handle)

    def scores(self, row: int) -> Floats:
        """Next-token scores (vocabulary,) float32 of a row that wanted them; the next decode overwrites them."""
        pointer = quick.llama_get_logits_ith(self.handle, row)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary_size,))

    def score(self, row: int, token: int) -> float:
        """A token's score in a row that wanted them; for where nothing is cut on the device."""
        return float(quick.llama_get_logits_ith(self.handle, row)[token])

    def decode_tokens(self, tokens: Ints, positions: Ints, sequences: Ints, wanted: npt.NDArray[np.int8]) -> Floats:
        """Evaluate tokens, one sequence each.

        Args:
            tokens, positions, sequences: (n,) int32 each; n at most ``n_batch``.
            wanted: (n,) int8, 1 where next-token scores are wanted; at most ``n_outputs`` of them.

        Returns:
            Scores (wanted, vocabulary) float32, in order; a view that the next call overwrites.
        """
        self._evaluate(tokens, None, positions, sequences, wanted)
        rows = int(wanted.sum())
        if not rows:
            return np.empty((0, self._vocabulary_size), np.float32)
        logits = llama.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(logits, shape=(rows, self._vocabulary_size))

    def decode_embeddings(self, embeddings: Floats, positions: Ints, sequences: Ints) -> None:
        """Evaluate embeddings (n, width) float32, one sequence each; no scores are read."""
        self._evaluate(None, embeddings, positions, sequences, np.zeros(len(positions), np.int8))

    def _evaluate(
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
        rows = self.rows
        rows.positions[:count], rows.sequences[:count], rows.wanted[:count] = positions, sequences, wanted
        if tokens is not None:
            rows.tokens[:count] = tokens
        code = llama.llama_decode(self.handle, rows.batch(count, embeddings))
        if code:
            raise decode_error(code, f"llama.cpp could not evaluate a batch of {count} tokens")
        self.wait()


def decode_error(code: int, what: str) -> EngineError:
    """The error for a code of llama_decode below -1, or one that a caller cannot mend.

    Args:
        code: -2 means that memory for the computation was not to be had, others that it failed.
        what: what happened.
    """
    if code == _NO_MEMORY:
        return EngineOutOfMemoryError(f"{what}: no memory was to be had for it.", hint="Lower n_ubatch, then n_ctx.")
    return EngineError(f"{what} (code {code}).", hint="The logger 'fastinfer.llama' says why.")


class Rows:
    """A batch: arrays that llama.cpp reads in place, filled before each decode.

    Attributes:
        tokens, positions, sequences: (n_batch,) int32; one sequence a row.
        wanted: (n_batch,) int8, 1 where next-token scores are wanted.
    """

    def __init__(self, n_batch: int) -> None:
        self.tokens: Ints = np.zeros(n_batch, np.int32)
        self.positions: Ints = np.zeros(n_batch, np.int32)
        self.sequences: Ints = np.zeros(n_batch, np.int32)
        self.wanted: npt.NDArray[np.int8] = np.zeros(n_batch, np.int8)
        self._ones: Ints = np.ones(n_batch, np.int32)
        # llama.cpp takes a list of sequences a row: pointers to where each row's only one is.
        self._pointers = (self.sequences.ctypes.data + 4 * np.arange(n_batch, dtype=np.uint64)).astype(np.uint64)
        ints = ctypes.POINTER(ctypes.c_int32)
        self._batch = llama.llama_batch(
            n_tokens=0,
            token=None,
            embd=None,
            pos=self.positions.ctypes.data_as(ints),
            n_seq_id=self._ones.ctypes.data_as(ints),
            seq_id=ctypes.cast(self._pointers.ctypes.data, ctypes.POINTER(ints)),
            logits=self.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        self._token_pointer = self.tokens.ctypes.data_as(ints)
        self._position_pointer = self.positions.ctypes.data_as(ints)

    def batch(self, count: int, embeddings: Floats | None = None, positions: Ints | None = None) -> Any:
        """The first ``count`` rows as llama.cpp takes them.

        Args:
            count: rows.
            embeddings: (count, width) in place of the tokens.
            positions: (count,) or (dimensions, count) in place of the rows' own.
        """
        self._batch.n_tokens = count
        self._batch.pos = self._position_pointer
        if embeddings is None:
            self._batch.token, self._batch.embd = self._token_pointer, None
        else:
            self._batch.token = None
            self._batch.embd = embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            if positions is not None:
                self._batch.pos = positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        return self._batch
