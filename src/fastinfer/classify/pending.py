"""An image between input and output, whichever way it is computed."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Protocol, TypeAlias

from fastinfer.classify.patience import Patience
from fastinfer.classify.results import Classification
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError
from fastinfer.images import ImageSource
from fastinfer.interrupts import Deferral

__all__ = ["ImageJob", "PendingImage", "Started"]

#: What becomes of an image: the engine's future once it is queued, and the milliseconds that decoding it took.
Started: TypeAlias = "Future[tuple[Future[Scores], float]]"


class ImageJob(Protocol):
    """What to do with each image."""

    def check_process(self) -> None:
        """Refuse to go on in a forked process, where nobody would ever answer, before any lock is taken."""
        ...

    def expect(self) -> None:
        """An image was handed over, and is to be decoded."""
        ...

    def withdraw(self, *, admitted: bool) -> None:
        """The image was taken back before it was started; gives the place back that it had."""
        ...

    def finish(self, image: ImageSource, scores: Scores, decode_ms: float) -> Classification:
        """The result."""
        ...


class PendingImage:
    """An image that was handed over; see :class:`fastinfer.ordered.Pending`.

    Args:
        job: what is done with it.
        image: where it comes from.
        patience: how long it is waited for.
        started: what becomes of it.
        own: ``started`` is nobody else's, and may be cancelled; False for an image of a group.
    """

    def __init__(
        self, job: ImageJob, image: ImageSource, patience: Patience, started: Started, *, own: bool = True
    ) -> None:
        self._job, self.image, self._patience, self.started, self._own = job, image, patience, started, own

    def result(self) -> Classification:
        """The result; waits for it."""
        self._job.check_process()
        scores, decode_ms = self._patience.answer(self.started, self.cancel)
        return self._job.finish(self.image, self._patience.answer(scores, self.cancel), decode_ms)

    async def aresult(self) -> Classification:
        """The result; awaits it."""
        self._job.check_process()
        started: asyncio.Future[tuple[Future[Scores], float]] = asyncio.wrap_future(self.started)
        scores, decode_ms = await self._patience.aanswer(started if self._own else asyncio.shield(started), self.cancel)
        answer = await self._patience.aanswer(asyncio.wrap_future(scores), self.cancel)
        return self._job.finish(self.image, answer, decode_ms)

    def cancel(self) -> None:
        """Take it back; nobody will wait for it."""
        try:
            self._job.check_process()
        except EngineDeadError:
            return  # it is the parent's
        with Deferral():
            if not (self._own and self.started.cancel()):
                self.started.add_done_callback(_cancel_scores)


def _cancel_scores(started: Started) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result()[0].cancel()
