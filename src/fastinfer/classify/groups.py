"""Images in groups: consecutive ones are computed in one batch, so that their results depend on nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from fastinfer.classify.patience import Patience
from fastinfer.classify.results import Classification
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError, FastInferError, RequestTimeoutError
from fastinfer.images import ImageSource
from fastinfer.images.prepared import EngineImage
from fastinfer.interrupts import Answer, Deferral

__all__ = ["GroupJob", "GroupedImages", "Loaded", "PendingMember"]

#: What becomes of an image: the milliseconds that decoding it took, and the engine's future once its group is queued.
_Started: TypeAlias = "Future[tuple[Future[Scores], float]]"


class Loaded(NamedTuple):
    """A decoded image, the milliseconds that took, and when it began, by ``time.perf_counter()``."""

    image: EngineImage
    decode_ms: float
    begun: float


class GroupJob(Protocol):
    """What to do with each image, and with a group of them."""

    def check_process(self) -> None:
        """Refuse to go on in a forked process, where nobody would ever answer, before any lock is taken."""
        ...

    def expect(self) -> None:
        """An image was handed over, and is to be decoded."""
        ...

    def withdraw(self, *, admitted: bool) -> None:
        """It will not be decoded."""
        ...

    def load(self, image: ImageSource) -> Loaded:
        """Decode an image."""
        ...

    def start_together(self, images: list[Loaded]) -> list[Future[Scores]]:
        """Queue decoded images as a batch of their own."""
        ...

    def finish(self, image: ImageSource, scores: Scores, decode_ms: float) -> Classification:
        """The result."""
        ...


class GroupedImages:
    """Gives each image a place in the group that is open, and queues a group once all its images are decoded.

    Args:
        pool: threads to decode in.
        job: what to do.
        size: images of a group; the last one may have fewer.
        timeout: seconds to wait for an image; None as long as it takes.
        late: the error where they have passed.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        job: GroupJob,
        size: int,
        timeout: float | None,
        late: Callable[[ImageSource, float | None], RequestTimeoutError],
    ) -> None:
        self._pool, self._job, self._size = pool, job, size
        self._timeout, self._late = timeout, late
        self._group = _Group(job)

    def start(self, image: ImageSource) -> PendingMember:
        """Put the next image into the group."""
        with Deferral():
            return self._start(image)

    def _start(self, image: ImageSource) -> PendingMember:
        self._job.check_process()
        group = self._group
        member = PendingMember(self._job, image, self._timeout, self._late)
        if group.add(member) == self._size:
            self.end()
        self._job.expect()
        try:
            self._pool.submit(group.load, member)
        except RuntimeError as error:  # the pool was shut down: the classifier was closed, or the interpreter ends
            dead = EngineDeadError("The classifier was closed before this image was classified.")
            dead.__cause__ = error
            self._job.withdraw(admitted=False)
            group.failed(member, dead)
        return member

    def end(self) -> None:
        """The group has all its images: queue it as soon as they are decoded, and open the next one."""
        with Deferral():
            group, self._group = self._group, _Group(self._job)
            group.end()


class PendingMember:
    """An image of a group between input and output; see :class:`fastinfer.ordered.Pending`."""

    def __init__(
        self,
        job: GroupJob,
        image: ImageSource,
        timeout: float | None,
        late: Callable[[ImageSource, float | None], RequestTimeoutError],
    ) -> None:
        self._job = job
        self.image = image
        self._patience = Patience(timeout, partial(late, image, timeout))
        self.started: _Started = Answer()

    def result(self) -> Classification:
        """The result; waits for it."""
        self._job.check_process()
        scores, decode_ms = self._patience.answer(self.started, self.cancel)
        return self._job.finish(self.image, self._patience.answer(scores, self.cancel), decode_ms)

    async def aresult(self) -> Classification:
        """The result; awaits it."""
        self._job.check_process()
        scores, decode_ms = await self._patience.aanswer(asyncio.shield(asyncio.wrap_future(self.started)), self.cancel)
        answer = await self._patience.aanswer(asyncio.wrap_future(scores), self.cancel)
        return self._job.finish(self.image, answer, decode_ms)

    def cancel(self) -> None:
        """Take it back; nobody will wait for it, nor for those after it in the group."""
        try:
            self._job.check_process()
        except EngineDeadError:
            return  # it is the parent's
        with Deferral():
            self.started.add_done_callback(_cancel_scores)


class _Group:
    def __init__(self, job: GroupJob) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._members: list[PendingMember] = []
        self._loaded: dict[PendingMember, Loaded | BaseException] = {}
        self._ended = False

    def add(self, member: PendingMember) -> int:
        """Add a member; how many there are now."""
        with self._lock:
            self._members.append(member)
            return len(self._members)

    def end(self) -> None:
        with self._lock:
            self._ended = True
        self._queue_if_complete()

    def load(self, member: PendingMember) -> None:
        try:
            loaded = self._job.load(member.image)
        except BaseException as error:  # noqa: BLE001  whoever waits for the image gets it, whatever it is
            self.failed(member, error)
        else:
            self._done(member, loaded)

    def failed(self, member: PendingMember, error: BaseException) -> None:
        """The member has no image; the others go without it."""
        self._done(member, error)

    def _done(self, member: PendingMember, loaded: Loaded | BaseException) -> None:
        with self._lock:
            self._loaded[member] = loaded
        self._queue_if_complete()

    def _queue_if_complete(self) -> None:
        with self._lock:
            if not self._ended or len(self._loaded) < len(self._members):
                return
            # Whoever comes second finds no members, and nothing to do.
            members, self._members = self._members, []
            loaded, self._loaded = self._loaded, {}
        ready: list[tuple[PendingMember, Loaded]] = []
        for member in members:
            outcome = loaded[member]
            if isinstance(outcome, BaseException):
                member.started.set_exception(outcome)
            else:
                ready.append((member, outcome))
        if not ready:
            return
        try:
            futures = self._job.start_together([outcome for _, outcome in ready])
        except FastInferError as error:
            for member, _ in ready:
                member.started.set_exception(error)
            return
        for (member, outcome), future in zip(ready, futures, strict=True):
            member.started.set_result((future, outcome.decode_ms))


def _cancel_scores(started: _Started) -> None:
    if started.exception() is None:
        started.result()[0].cancel()
