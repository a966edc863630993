"""Images on their way through a classifier: decoded by a pool, then queued for the engine."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from fastinfer.classify.results import Classification
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError, FastInferError
from fastinfer.images import ImageSource

__all__ = ["Job", "PendingImage", "start"]


class Job(Protocol):
    """What to do with each image."""

    def start(self, image: ImageSource) -> tuple[Future[Scores], float]:
        """Decode and queue an image; the engine's future and the milliseconds it took."""
        ...

    def finish(self, image: ImageSource, scores: Scores, decode_ms: float) -> Classification:
        """The result."""
        ...

    def failed(self, image: ImageSource, error: FastInferError) -> Classification:
        """The result of an image that failed."""
        ...


_Started = Future[tuple[Future[Scores], float]]


def start(pool: ThreadPoolExecutor, job: Job, image: ImageSource) -> _Started:
    """Have an image decoded and queued by the pool; the future of what :meth:`Job.start` returns."""
    try:
        return pool.submit(job.start, image)
    except RuntimeError as error:  # the pool was shut down: the classifier was closed, or the interpreter ends
        failed = _Started()
        dead = EngineDeadError("The classifier was closed before this image was classified.")
        dead.__cause__ = error
        failed.set_exception(dead)
        return failed


class PendingImage:
    """An image between input and output; see :class:`fastinfer.ordered.Pending`."""

    def __init__(self, pool: ThreadPoolExecutor, job: Job, image: ImageSource) -> None:
        self._job, self._image = job, image
        self._started = start(pool, job, image)

    def result(self) -> Classification:
        """The result; waits for it."""
        scores, decode_ms = self._started.result()
        return self._job.finish(self._image, scores.result(), decode_ms)

    async def aresult(self) -> Classification:
        """The result; awaits it."""
        scores, decode_ms = await asyncio.wrap_future(self._started)
        return self._job.finish(self._image, await asyncio.wrap_future(scores), decode_ms)

    def cancel(self) -> None:
        """Take it back; nobody will wait for it."""
        if not self._started.cancel():
            self._started.add_done_callback(_cancel_scores)


def _cancel_scores(started: _Started) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result()[0].cancel()
