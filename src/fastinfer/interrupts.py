"""Ctrl-C where it would be lost, or would leave a lock behind.

Python raises KeyboardInterrupt in whatever Python code the main thread runs next. Where that is a callback of a C
library, a finaliser or a callback of a weak reference, there is nobody to raise it to: Python reports it and goes on.
Where it is the code that enters a ``threading.Condition``, the lock is taken and nobody will ever give it back, and
conditions are in every Future and every pool of threads: an engine's thread that wants the lock then waits for ever.
And where it comes after Python last looked for it and before the system waits, the wait goes on to its end.
"""

from __future__ import annotations

import _thread
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, Final, TypeVar

__all__ = ["Answer", "Deferral", "answer_of", "heeded", "press_again", "slices", "submitted", "undisturbed"]

Result = TypeVar("Result")

#: Seconds that the main thread waits at most before Ctrl-C is looked for.
_SLICE: Final = 0.05
#: Seconds until an interrupt that was lost is pressed again: whatever lost it is over by then, as a rule.
_AGAIN: Final = 0.02
#: Seconds after that in which it is noticed if it is lost once more, as in another finaliser.
_HEARD: Final = 1.0


def _in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def slices(timeout: float | None) -> Iterator[float]:
    """The seconds of a wait, in pieces after each of which Ctrl-C is looked for; in one piece in other threads.

    Python overlooks an interrupt that comes just before the system begins to wait, and Windows does not wake a thread
    that waits for a lock: a wait for minutes would go on for minutes.

    Args:
        timeout: seconds in all; None goes on for ever.
    """
    longest = _SLICE if _in_main_thread() else threading.TIMEOUT_MAX
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        yield min(left, longest)
        if left <= longest:
            return


class Deferral:
    """A context manager: Ctrl-C has its effect when the block ends, or where :meth:`heed` is called in it.

    For what takes no time, or is a call of a C library that takes its time in one piece anyway. It costs some
    microseconds. In other threads than the main one, where Ctrl-C never comes, nothing changes. One within another
    leaves to that one what was pressed.
    """

    __slots__ = ("_handler", "_noting", "_outer", "_pressed")

    def __init__(self) -> None:
        #: What Ctrl-C does elsewhere; None where nothing is deferred.
        self._handler: Callable[[int, Any], Any] | None = None
        self._outer: Deferral | None = None
        #: What Ctrl-C does meanwhile; one object that lives as long. Python holds no reference to a handler that it is
        #: about to call, and the garbage collector, which may run just then, may find a finaliser with a deferral.
        self._noting: Callable[[int, Any], None] | None = None
        self._pressed: list[Any] = []

    def heed(self) -> None:
        """Where Ctrl-C was pressed, do now what it does, also within another deferral."""
        if self._handler is None:
            return
        frames = []
        here: Deferral | None = self
        while here is not None:
            frames += here._pressed
            here._pressed.clear()
            here = here._outer
        if frames:
            self._handler(signal.SIGINT, frames[0])

    def at_most(self, left: float | None) -> float | None:
        """Seconds to wait at once, of those that are left: then :meth:`heed` is to be called.

        Args:
            left: None waits as long as it takes.
        """
        if self._handler is None:
            return left
        return _SLICE if left is None else min(left, _SLICE)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Do at once what Ctrl-C does within this block, also within another deferral."""
        if self._handler is None:
            yield
            return
        self.heed()
        signal.signal(signal.SIGINT, self._handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._noting)

    def _note(self, _: int, frame: Any) -> None:
        self._pressed.append(frame)

    def __enter__(self) -> Deferral:
        if _in_main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):  # otherwise it is ignored, left to the system, or not Python's
                outer = getattr(handler, "__self__", None)
                self._outer = outer if isinstance(outer, Deferral) else None
                self._handler = handler if self._outer is None else self._outer._handler
                self._noting = self._note
                signal.signal(signal.SIGINT, self._noting)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is None:
            return
        if self._outer is None:
            signal.signal(signal.SIGINT, self._handler)
            self._noting = None
            self.heed()
        else:
            signal.signal(signal.SIGINT, self._outer._noting)
            self._noting = None
            self._outer._pressed += self._pressed


class _Condition(threading.Condition):
    """One that is entered and left in a single step of C, between whose parts no interrupt is raised."""

    _lock: Any

    @property
    def __enter__(self) -> Any:
        return self._lock.__enter__

    @property
    def __exit__(self) -> Any:
        return self._lock.__exit__


class Answer(Future[Result]):
    """A Future that an interrupt cannot leave locked, whoever waits for it or cancels it.

    asyncio cancels the futures that its tasks wait for in the main thread, with code of its own. An engine's thread
    that answers such a future would otherwise wait for its lock for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = _Condition()


def submitted(pool: Executor, call: Callable[[], Result]) -> Answer[Result]:
    """Have a pool make a call; cancelling the answer before its turn comes takes it back.

    Raises:
        RuntimeError: the pool was shut down.
    """
    answer: Answer[Result] = Answer()

    def work() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  whoever waits for the answer gets it, whatever it is
            answer.set_exception(error)
        else:
            answer.set_result(result)

    with Deferral():
        pool.submit(work)
    return answer


def answer_of(future: Future[Result], timeout: float | None = None) -> Result:
    """``future.result(timeout)``, which Ctrl-C ends without harm to whoever answers the future.

    Raises:
        concurrent.futures.TimeoutError: it was not done in time.
        BaseException: what the future failed with.
    """
    if not _in_main_thread():
        return future.result(timeout)
    over = threading.Lock()
    over.acquire()
    with Deferral():
        future.add_done_callback(lambda _: over.release())
    # A lock itself is entered or not, whenever Ctrl-C comes.
    if not any(over.acquire(timeout=seconds) for seconds in slices(timeout)):
        raise FutureTimeoutError
    with Deferral():
        return future.result()


@contextmanager
def heeded() -> Iterator[None]:
    """Have Ctrl-C end the block also where Python loses it: it is pressed again a moment later, or raised at the end.

    For a long call in the main thread; elsewhere nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    lost = _Lost()
    try:
        with lost.noticed():
            yield
    finally:
        if lost.take():
            raise KeyboardInterrupt


def press_again() -> None:
    """For where KeyboardInterrupt was caught and cannot be raised: Ctrl-C is pressed again a moment later."""
    _Lost().note()


def undisturbed(work: Callable[[], object]) -> None:
    """For a finaliser: do work that takes no time once, and to its end; Ctrl-C has its effect a moment later."""
    left = [work]
    try:
        with Deferral():
            left.pop()()
    except KeyboardInterrupt:
        for work in left:  # it came before the deferral
            work()
        press_again()


class _Lost:
    """An interrupt that nobody was told of, until somebody takes it."""

    def __init__(self) -> None:
        self._there: list[None] = []

    def note(self) -> None:
        self._there.append(None)
        # threading.Thread would wait until it has started, and the interrupt could come just there.
        _thread.start_new_thread(self._press, ())

    def take(self) -> bool:
        try:
            self._there.pop()
        except IndexError:
            return False
        return True

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Note what Python loses within this block."""
        before, over = sys.unraisablehook, False

        def hook(unraisable: Any) -> None:
            if not over and issubclass(unraisable.exc_type, KeyboardInterrupt):
                self.note()
            else:
                before(unraisable)

        sys.unraisablehook = hook
        try:
            yield
        finally:
            # Blocks of other threads may overlap this one, and put this hook back when they end.
            over = True
            if sys.unraisablehook is hook:
                sys.unraisablehook = before

    def _press(self) -> None:
        time.sleep(_AGAIN)
        if not self.take():
            return
        main = threading.main_thread().ident
        with self.noticed():
            if sys.platform == "win32" or main is None:
                _thread.interrupt_main()
            else:
                signal.pthread_kill(main, signal.SIGINT)  # wakes it, too, from what it waits for
            time.sleep(_HEARD)
