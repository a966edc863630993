"""Images in groups: consecutive ones are computed in one batch, so that their results depend on nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

from fastinfer.classify.patience import Patience
from fastinfer.classify.pending import ImageJob, PendingImage
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError, FastInferError
from fastinfer.images import ImageSource
from fastinfer.images.prepared import EngineImage
from fastinfer.interrupts import Answer, Deferral

__all__ = ["GroupJob", "GroupedImages", "Loaded"]


class Loaded(NamedTuple):
    """A decoded image, the milliseconds that took, and when it began, by ``time.perf_counter()``."""

    image: EngineImage
    decode_ms: float
    begun: float


class GroupJob(ImageJob, Protocol):
    """What to do with each image, and with a group of them."""

    def load(self, image: ImageSource) -> Loaded:
        """Decode an image."""
        ...

    def start_together(self, images: list[Loaded]) -> list[Future[Scores]]:
        """Queue decoded images as a batch of their own."""
        ...


class GroupedImages:
    """Gives each image a place in the group that is open, and queues a group once all its images are decoded.

    Args:
        pool: threads to decode in.
        job: what to do.
        size: images of a group; the last one may have fewer.
        patience: how long an image is waited for.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        job: GroupJob,
        size: int,
        patience: Callable[[ImageSource], Patience],
    ) -> None:
        self._pool, self._job, self._size, self._patience = pool, job, size, patience
        self._group = _Group(job)

    def start(self, image: ImageSource) -> PendingImage:
        """Put the next image into the group."""
        with Deferral():
            return self._start(image)

    def _start(self, image: ImageSource) -> PendingImage:
        self._job.check_process()
        group = self._group
        member = PendingImage(self._job, image, self._patience(image), Answer(), own=False)
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


class _Group:
    def __init__(self, job: GroupJob) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._members: list[PendingImage] = []
        self._loaded: dict[PendingImage, Loaded | BaseException] = {}
        self._ended = False

    def add(self, member: PendingImage) -> int:
        """Add a member; how many there are now."""
        with self._lock:
            self._members.append(member)
            return len(self._members)

    def end(self) -> None:
        with self._lock:
            self._ended = True
        self._queue_if_complete()

    def load(self, member: PendingImage) -> None:
        try:
            loaded = self._job.load(member.image)
        except BaseException as error:  # noqa: BLE001  whoever waits for the image gets it, whatever it is
            self.failed(member, error)
        else:
            self._done(member, loaded)

    def failed(self, member: PendingImage, error: BaseException) -> None:
        """The member has no image; the others go without it."""
        self._done(member, error)

    def _done(self, member: PendingImage, loaded: Loaded | BaseException) -> None:
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
        ready: list[tuple[PendingImage, Loaded]] = []
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
