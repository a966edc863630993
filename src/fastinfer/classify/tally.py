"""What a classifier has done so far, for those who watch it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from fastinfer.engines.base import Scores
from fastinfer.engines.tally import SIZES, ErrorCounts, Histogram, keep

__all__ = ["ImageTally"]


@dataclass(slots=True, eq=False)
class ImageTally:
    """Sums over a classifier's life. Methods may be called from any thread; an image costs a few microseconds in all.

    Attributes:
        waiting: images that were handed over and whose reading has not begun.
        decoding: images that are being read, decoded and resized.
        computing: images in the engine: in its queue or in a batch.
        answered: images that were classified.
        cancelled: images that were taken back before they were computed.
        errors: images that failed, were refused or came too late.
        latency: seconds from the beginning of reading to the answer.
        decode, queue, encode, score: seconds of each part, as in :class:`fastinfer.Timings`.
        batch: images computed together with each image, itself included.
    """

    waiting: int = field(default=0, metadata={"join": keep})
    decoding: int = field(default=0, metadata={"join": keep})
    computing: int = field(default=0, metadata={"join": keep})
    answered: int = 0
    cancelled: int = 0
    errors: ErrorCounts = field(default_factory=ErrorCounts)
    latency: Histogram = field(default_factory=Histogram)
    decode: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    encode: Histogram = field(default_factory=Histogram)
    score: Histogram = field(default_factory=Histogram)
    batch: Histogram = field(default_factory=lambda: Histogram(SIZES))
    # Held for a few additions. Where the garbage collector closes a classifier, this very thread may hold it.
    _lock: Any = field(default_factory=threading.RLock, metadata={"join": keep}, repr=False)

    def expect(self) -> None:
        """An image was handed over."""
        with self._lock:
            self.waiting += 1

    def withdraw(self, error: BaseException | None = None) -> None:
        """It was taken back before its reading began, or refused with an error."""
        with self._lock:
            self.waiting -= 1
            if error is None:
                self.cancelled += 1
        if error is not None:
            self.errors.add(error)

    def begin(self) -> None:
        """Its reading begins."""
        with self._lock:
            self.waiting -= 1
            self.decoding += 1

    def spoil(self, error: BaseException) -> None:
        """It could not be read, or the engine did not take it."""
        with self._lock:
            self.decoding -= 1
        self.errors.add(error)

    def decoded(self) -> None:
        """It was read. Until the engine has it, as where it waits for others of its group, it is in no stage."""
        with self._lock:
            self.decoding -= 1

    def submit(self) -> None:
        """The engine has it."""
        with self._lock:
            self.computing += 1

    def end(self, begun: float, decode_ms: float, scores: Future[Scores]) -> None:
        """The engine has answered.

        Args:
            begun: when its reading began, by ``time.perf_counter()``.
            decode_ms: milliseconds that it took to be read.
            scores: the answer.
        """
        latency = perf_counter() - begun
        try:
            error = scores.exception()
        except CancelledError:
            with self._lock:
                self.computing -= 1
                self.cancelled += 1
            return
        if error is not None:
            with self._lock:
                self.computing -= 1
            self.errors.add(error)
            return
        answer = scores.result()
        with self._lock:
            self.computing -= 1
            self.answered += 1
            self.latency.add(latency)
            self.decode.add(decode_ms / 1e3)
            self.queue.add(answer.queued_ms / 1e3)
            self.encode.add(answer.encode_ms / 1e3)
            self.score.add(answer.score_ms / 1e3)
            self.batch.add(answer.batch)
