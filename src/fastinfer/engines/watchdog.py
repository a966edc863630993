"""Finds steps of engines that take too long, says where they stand, and ends what cannot go on."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakSet

from fastinfer.engines.lifeline import Lifeline
from fastinfer.errors import EngineDeadError

__all__ = ["Overdue", "OverdueError", "Watch", "report_to", "told_again"]

_log = logging.getLogger(__name__)

#: Seconds between looks.
_LOOK: Final = 0.5
#: Calls that are shown of a thread's stack, the innermost ones.
_FRAMES: Final = 6


class Overdue(NamedTuple):
    """A step that takes too long: which it is and where it stands, in a sentence, and the calls that led there."""

    sentence: str
    stack: str


class OverdueError(Exception):
    """Where a step stood when it had taken too long: the ``__cause__`` of an EngineDeadError."""


class Watch:
    """Watches one thread of an engine. Its methods cost well under a microsecond.

    Args:
        life: of the engine; says how long a step may take.
        give_up: is called in a thread of the watchdog's, once, with what is to be told to all who wait. The step is
            still running then, and may end any time later or never.
    """

    def __init__(self, life: Lifeline, give_up: Callable[[EngineDeadError], None]) -> None:
        self.life, self.give_up = life, give_up
        self._what = ""
        self._thread = 0
        self._begun: float | None = None
        self.is_given_up = False
        _watched.add(self)
        _start()

    def begin(self, what: str) -> None:
        """A step begins in this thread; one that has begun before is over.

        Args:
            what: how it is called in messages.
        """
        self._what, self._thread = what, threading.get_ident()
        self._begun = time.monotonic()

    def end(self) -> None:
        """The step is over."""
        self._begun = None

    def overdue(self, now: float) -> Overdue | None:
        """The step that has taken too long at ``now``; None where there is none."""
        begun, limit = self._begun, self.life.step_timeout
        if begun is None or now - begun <= limit:
            return None
        said = f"{self._what} has taken more than {limit:g} s"
        frame = sys._current_frames().get(self._thread)
        if frame is None:
            return Overdue(f"{said}; its thread runs no Python code.", "")
        stack = traceback.extract_stack(frame)[-_FRAMES:]
        last = stack[-1]
        return Overdue(
            f"{said}; it stands in {last.name}, {Path(last.filename).name}, line {last.lineno}: {last.line}.",
            "".join(traceback.format_list(stack)),
        )


def told_again(error: EngineDeadError) -> EngineDeadError:
    """The same error once more, as each of those who wait gets one of their own."""
    again = EngineDeadError(error.message, hint=error.hint)
    again.__cause__ = error.__cause__
    return again


_watched: Final[WeakSet[Watch]] = WeakSet()
_lock: Final = threading.Lock()
_thread: threading.Thread | None = None
_report: Callable[[Overdue], None] | None = None


def report_to(report: Callable[[Overdue], None]) -> None:
    """Have this told where a step stands that takes too long, in place of giving its engine up."""
    global _report
    _report = report


def _start() -> None:
    global _thread
    with _lock:
        # After a fork the thread is not there, and says so.
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="fastinfer-watchdog", daemon=True)
            _thread.start()


def _run() -> None:
    global _thread
    while True:
        time.sleep(_LOOK)
        now = time.monotonic()
        watches = list(_watched)
        for watch in watches:
            if not watch.is_given_up and (overdue := watch.overdue(now)) is not None:
                watch.is_given_up = True
                _give_up(watch, overdue)
        del watches
        watch = None  # type: ignore[assignment]
        with _lock:
            if not _watched:
                _thread = None
                return


def _give_up(watch: Watch, overdue: Overdue) -> None:
    if _report is not None:
        _report(overdue)
        return
    _log.error("%s: %s\n%s", watch.life.alias, *overdue)
    error = EngineDeadError(
        f"The engine hangs: {overdue.sentence}",
        hint="Create a new one. The memory of this one stays taken until the step ends; an engine in a process of its "
        "own (isolate=True) is ended and started again. If the step was only slow, raise step_timeout.",
    )
    error.__cause__ = OverdueError(overdue.stack)
    watch.life.dead = error
    watch.life.hangs = True
    watch.give_up(error)
