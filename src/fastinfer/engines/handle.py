"""What classification engines share: the side that callers hold, batches of one task, and how requests fail."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Protocol, TypeVar

from fastinfer.engines.base import EngineDescription, Scores, Task
from fastinfer.engines.lifeline import Lifeline, finish_closing
from fastinfer.engines.watchdog import told_again
from fastinfer.errors import EngineDeadError
from fastinfer.images.prepared import EngineImage
from fastinfer.interrupts import Deferral

__all__ = ["Core", "EngineHandle", "Queued", "answer", "fail", "fail_all", "fail_hung", "take_batch"]

_log = logging.getLogger(__name__)


class Core(Protocol):
    """The side of an engine that its threads hold; its methods mean what the handle's do.

    The handle sees to it that none of them is called in another process than the engine's own.

    Attributes:
        life: whether the engine can still be used.
    """

    life: Lifeline

    @property
    def description(self) -> EngineDescription:
        """What the engine is."""
        ...

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        """Tokens of a label as an answer to the prompt."""
        ...

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        """Queue one image."""
        ...

    def close(self) -> None:
        """End the engine; idempotent."""
        ...


class EngineHandle:
    """A :class:`fastinfer.engines.base.ClassifyEngine` over its core.

    Threads refer to the core alone, so a handle that is dropped is collected, and the core closed by that; it is closed
    too when the interpreter ends, while native threads can still be stopped.

    Args:
        core: what does the work.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._finalizer = weakref.finalize(self, finish_closing, partial(_close, core))

    @property
    def description(self) -> EngineDescription:
        """What the engine is."""
        return self._core.description

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        """Tokens of a label as an answer to the prompt. Safe from any thread.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
            LabelError: this engine cannot score such a label.
        """
        self.check_process()
        with Deferral():
            return self._core.tokenize_label(label, prompt)

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        """Queue one image, prepared as the description says; the future may be cancelled until its turn comes.

        Whether an image is too large or its prompt too long is raised here or by the future, whichever knows first.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
            PromptTooLongError: prompt, image and answer are longer than a request may be.
            ImageDecodeError: the image has a shape that the model cannot take.
        """
        self.check_process()
        with Deferral():
            return self._core.submit(image, task)

    def go_by(self, alias: str) -> None:
        """Be called so in logs."""
        self._core.life.alias = alias

    def limit_steps(self, seconds: float) -> None:
        """Count as hanging where a step takes longer."""
        self._core.life.step_timeout = seconds

    def check_process(self) -> None:
        """Refuse work in another process than the engine's own; takes no lock.

        Raises:
            EngineDeadError: the process was forked after the engine was created.
        """
        self._core.life.check_process()

    def close(self) -> None:
        """Fail what waits, wait for what is being computed, free all memory. Idempotent, from any thread."""
        _close(self._core)
        self._finalizer.detach()


def _close(core: Core) -> None:
    # After a fork the engine's threads are not there, and locks may be held for ever.
    if not core.life.is_elsewhere:
        core.close()


class Queued(Protocol):
    """A request in a queue."""

    task: Task
    future: Future[Scores]


_Request = TypeVar("_Request", bound=Queued)


def take_batch(queue: deque[_Request], most: int) -> list[_Request]:
    """Take the oldest request off a queue, and others of its task, in order, leaving out what was cancelled.

    Args:
        queue: changed in place; the requests of other tasks keep their order.
        most: the most requests to take.
    """
    batch: list[_Request] = []
    others: deque[_Request] = deque()
    while queue and len(batch) < most:
        request = queue.popleft()
        if batch and request.task is not batch[0].task:
            others.append(request)
        elif request.future.set_running_or_notify_cancel():
            batch.append(request)
    queue.extendleft(reversed(others))
    return batch


def fail(future: Future[Scores], error: Exception) -> None:
    """Answer with an error, unless there is an answer or nobody waits for one."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        _log.debug("A request was cancelled or answered before it failed: %s", error)


def fail_hung(futures: Iterable[Future[Scores]], error: EngineDeadError) -> None:
    """Tell everyone who waits for an engine that hangs."""
    for future in futures:
        fail(future, told_again(error))


def answer(future: Future[Scores], scores: Scores) -> None:
    """Answer, unless closing or the watchdog has given the request up meanwhile."""
    try:
        future.set_result(scores)
    except InvalidStateError:
        _log.debug("A request was computed after it had been given up.")


def fail_all(futures: Iterable[Future[Scores]], cause: BaseException | None) -> None:
    """Tell everyone who waits that the engine was closed, or what it died of."""
    for future in futures:
        dead = EngineDeadError(
            "The engine was closed before this image was classified."
            if cause is None
            else "The engine died while images were waiting.",
            hint=None if cause is None else "Create a new one.",
        )
        dead.__cause__ = cause
        fail(future, dead)
