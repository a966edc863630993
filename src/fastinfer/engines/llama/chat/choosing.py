"""The next tokens of many requests at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fastinfer.engines.llama.chat.sampler import TokenSampler
from fastinfer.engines.llama.context import LlamaContext

__all__ = ["ParallelSampling"]

#: Fewer rows than this are not worth waking others for.
_LEAST = 4


class ParallelSampling:
    """Runs samplers in threads: cutting a large vocabulary takes half a millisecond a row, one row after another.

    Args:
        workers: threads; below 2 everything is left to the caller.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "fastinfer-sample") if workers > 1 else None

    def tokens(self, context: LlamaContext, rows: Sequence[tuple[TokenSampler, int]]) -> list[int] | None:
        """The next token of each (sampler, row) of the last batch; None where it is not worth it.

        Each sampler is used by one thread, and llama.cpp only reads the scores.
        """
        if self._pool is None or len(rows) < _LEAST:
            return None
        # The first look puts rows in order, which only one thread may do.
        context.scores(rows[0][1])
        workers = min(self._workers, len(rows))
        found = self._pool.map(
            lambda first: [s.sample(context, row, slow=True) for s, row in rows[first::workers]], range(workers)
        )
        tokens = [0] * len(rows)
        for first, some in enumerate(found):
            tokens[first::workers] = some
        return tokens

    def close(self) -> None:
        """End the threads. Idempotent."""
        if self._pool is not None:
            self._pool.shutdown()
