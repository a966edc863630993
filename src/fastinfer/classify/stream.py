"""Many images through a classifier: lazy input, ordered output, bounded memory.

Two drivers, one for threads and one for asyncio, share everything but the waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from fastinfer.classify.results import Classification
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError, FastInferError
from fastinfer.images import ImageSource

__all__ = ["Job", "check_errors", "run", "run_async", "start"]


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


def check_errors(errors: str) -> None:
    """Refuse a value of ``errors`` that is neither of the two."""
    if errors not in ("raise", "return"):
        raise ValueError(f'errors must be "raise" or "return", not {errors!r}')


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


class _Window:
    """The images between input and output, oldest first."""

    def __init__(self, job: Job, pool: ThreadPoolExecutor, ahead: int, errors: str) -> None:
        self._job, self._pool, self._ahead, self._errors = job, pool, ahead, errors
        self._items: deque[tuple[ImageSource, _Started]] = deque()
        self._open = True
        self._broken: Exception | None = None

    @property
    def wants_more(self) -> bool:
        return self._open and len(self._items) < self._ahead

    def add(self, image: ImageSource) -> None:
        self._items.append((image, start(self._pool, self._job, image)))

    def end(self, error: Exception | None = None) -> None:
        """No more input: it was exhausted, or it raised."""
        self._open, self._broken = False, error

    @property
    def oldest(self) -> _Started | None:
        """What to wait for next; None once all is done. Raises what the input raised after all results before it."""
        if self._items:
            return self._items[0][1]
        if self._broken is not None:
            raise self._broken
        return None

    def succeed(self, scores: Scores, decode_ms: float) -> Classification:
        """The result of the oldest image."""
        return self._job.finish(self._items.popleft()[0], scores, decode_ms)

    def fail(self, error: FastInferError) -> Classification:
        """The result of the oldest image if it failed; raises where failures are to be raised."""
        image, _ = self._items.popleft()
        if self._errors == "raise":
            raise error
        return self._job.failed(image, error)

    def cancel(self) -> None:
        """Take back what was started and will not be waited for."""
        for _, started in self._items:
            if not started.cancel():
                started.add_done_callback(_cancel_scores)


def run(
    images: Iterable[ImageSource], job: Job, pool: ThreadPoolExecutor, *, ahead: int, errors: str, progress: bool
) -> Iterator[Classification]:
    """Results in order, with at most ``ahead`` images decoded or queued at a time."""
    window, source = _Window(job, pool, ahead, errors), iter(images)
    with _bar(images, progress) as bar, _cancelling(window):
        while True:
            while window.wants_more:
                try:
                    window.add(next(source))
                except StopIteration:
                    window.end()
                except Exception as error:  # noqa: BLE001  whatever the caller's input raises is the caller's
                    window.end(error)
            started = window.oldest
            if started is None:
                return
            try:
                scores, decode_ms = started.result()
                result = window.succeed(scores.result(), decode_ms)
            except FastInferError as error:
                result = window.fail(error)
            bar.update()
            yield result


async def run_async(
    images: Iterable[ImageSource] | AsyncIterable[ImageSource],
    job: Job,
    pool: ThreadPoolExecutor,
    *,
    ahead: int,
    errors: str,
    progress: bool,
) -> AsyncIterator[Classification]:
    """:func:`run` for asyncio."""
    window = _Window(job, pool, ahead, errors)
    source = images.__aiter__() if isinstance(images, AsyncIterable) else _as_async(images)
    with _bar(images, progress) as bar, _cancelling(window):
        while True:
            while window.wants_more:
                try:
                    window.add(await source.__anext__())
                except StopAsyncIteration:
                    window.end()
                except Exception as error:  # noqa: BLE001  whatever the caller's input raises is the caller's
                    window.end(error)
            started = window.oldest
            if started is None:
                return
            try:
                scores, decode_ms = await asyncio.wrap_future(started)
                result = window.succeed(await asyncio.wrap_future(scores), decode_ms)
            except FastInferError as error:
                result = window.fail(error)
            bar.update()
            yield result


@contextmanager
def _cancelling(window: _Window) -> Iterator[None]:
    """Cancel what is left in the window on the way out."""
    try:
        yield
    finally:
        window.cancel()


async def _as_async(images: Iterable[ImageSource]) -> AsyncIterator[ImageSource]:
    for image in images:
        yield image


def _cancel_scores(started: _Started) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result()[0].cancel()


class _NoBar:
    def update(self) -> None:
        pass


def _bar(images: object, progress: bool) -> AbstractContextManager[Any]:
    if not progress:
        return nullcontext(_NoBar())
    from tqdm.auto import tqdm

    bar: AbstractContextManager[Any] = tqdm(total=len(images) if isinstance(images, Sized) else None, unit="image")
    return bar
