"""Finds steps of engines that take too long, says where they stand, and ends what cannot go on."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from fastinfer.engines.lifeline import Lifeline
from fastinfer.errors import EngineDeadError

__all__ = ["Watch", "report_to"]

_log = logging.getLogger(__name__)

#: Seconds between looks.
_LOOK: Final = 0.5
#: Calls that are shown of a thread's stack, the innermost ones.
_FRAMES: Final = 6


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

    def where(self, now: float) -> str | None:
        """Where a step stands that has taken too long at ``now``; None where there is none."""
        begun, limit = self._begun, self.life.step_timeout
        if begun is None or now - begun <= limit:
            return None
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else "  (no Python code)\n"
        return f"{self._what} has taken more than {limit:g} s. Its thread stands here:\n{stack}".rstrip()


_watched: Final[WeakSet[Watch]] = WeakSet()
_lock: Final = threading.Lock()
_thread: threading.Thread | None = None
_report: Callable[[str], None] | None = None


def report_to(report: Callable[[str], None]) -> None:
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
            if not watch.is_given_up and (where := watch.where(now)) is not None:
                watch.is_given_up = True
                _give_up(watch, where)
        del watches
        watch = None  # type: ignore[assignment]
        with _lock:
            if not _watched:
                _thread = None
                return


def _give_up(watch: Watch, where: str) -> None:
    if _report is not None:
        _report(where)
        return
    _log.error("%s: %s", watch.life.alias, where)
    error = EngineDeadError(
        f"The engine hangs: {where}",
        hint="Create a new one. The memory of this one stays taken until the step ends; an engine in a process of its "
        "own (isolate=True) is ended and started again. If the step was only slow, raise step_timeout.",
    )
    watch.life.dead = error
    watch.life.hangs = True
    watch.give_up(error)
