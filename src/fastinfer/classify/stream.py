"""Images on their way through a classifier: decoded by a pool, then queued for the engine."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeAlias

from fastinfer.classify.pending import ImageJob, Started
from fastinfer.classify.results import Classification
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError, FastInferError
from fastinfer.images import ImageSource
from fastinfer.interrupts import Deferral, submitted
from fastinfer.ordered import Pending, run, run_async

__all__ = ["Job", "arun_images", "run_images", "start"]

#: Hands an image to the pool.
_Take: TypeAlias = Callable[[ImageSource], Pending[Classification]]


class Job(ImageJob, Protocol):
    """What to do with each image, one at a time."""

    def admit(self, deadline: float | None) -> bool:
        """Wait for a place among the images in work; False where the deadline passes first."""
        ...

    def admit_now(self) -> None:
        """Take such a place without waiting; QueueFullError where there is none."""
        ...

    def start(self, image: ImageSource) -> tuple[Future[Scores], float]:
        """Decode and queue an image that has a place; the engine's future and the milliseconds it took."""
        ...

    def failed(self, image: ImageSource, error: FastInferError) -> Classification:
        """The result of an image that failed."""
        ...


def start(pool: ThreadPoolExecutor, job: Job, image: ImageSource, *, wait: bool = True) -> Started:
    """Have an image decoded and queued by the pool; the future of what :meth:`Job.start` returns.

    Args:
        pool: threads to do it in.
        job: what to do.
        image: the image.
        wait: wait in the pool for a place among the images in work; False takes one at once.

    Raises:
        QueueFullError: there is no place, and ``wait`` is False.
        EngineDeadError: the process was forked after the engine was created.
    """
    job.check_process()
    with Deferral():
        return _start(pool, job, image, wait=wait)


def _start(pool: ThreadPoolExecutor, job: Job, image: ImageSource, *, wait: bool) -> Started:
    job.expect()
    if not wait:
        job.admit_now()
    try:
        started = submitted(pool, partial(_start_admitted, job, image) if wait else partial(job.start, image))
        started.add_done_callback(lambda f: job.withdraw(admitted=not wait) if f.cancelled() else None)
        return started
    except RuntimeError as error:  # the pool was shut down: the classifier was closed, or the interpreter ends
        job.withdraw(admitted=not wait)
        failed: Started = Future()
        dead = EngineDeadError("The classifier was closed before this image was classified.")
        dead.__cause__ = error
        failed.set_exception(dead)
        return failed


def _start_admitted(job: Job, image: ImageSource) -> tuple[Future[Scores], float]:
    job.admit(None)
    return job.start(image)


def run_images(
    images: Iterable[ImageSource],
    job: Job,
    take: _Take,
    ended: Callable[[], None],
    *,
    ahead: int,
    errors: str,
    progress: bool,
) -> Iterator[Classification]:
    """Results in the order of the images; see :func:`fastinfer.ordered.run`.

    Args:
        images: read as needed.
        job: what to do with each.
        take: starts an image.
        ended: is called after the last one.
        ahead: most images between input and output.
        errors: ``"raise"`` or ``"return"``.
        progress: show a bar.
    """
    return run(images, take, job.failed, ahead=ahead, errors=errors, unit="image", progress=progress, ended=ended)


def arun_images(
    images: Iterable[ImageSource] | AsyncIterable[ImageSource],
    job: Job,
    take: _Take,
    ended: Callable[[], None],
    *,
    ahead: int,
    errors: str,
    progress: bool,
) -> AsyncIterator[Classification]:
    """:func:`run_images` for asyncio."""

    async def begin(image: ImageSource) -> Pending[Classification]:
        return take(image)

    return run_async(
        images, begin, job.failed, ahead=ahead, errors=errors, unit="image", progress=progress, ended=ended
    )
