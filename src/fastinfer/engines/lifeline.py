"""Whether an engine can still be used: open, alive, and in the process that made it."""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from fastinfer.errors import EngineDeadError
from fastinfer.interrupts import press_again

__all__ = ["Lifeline", "finish_closing", "outlive", "wait_for"]

#: Seconds that the interpreter's end waits for a thread that frees an engine.
_PATIENCE: Final = 20.0
#: Seconds between looks whether a thread that is waited for hangs, or Ctrl-C was pressed.
_LOOK: Final = 0.05
_freeing: Final[WeakSet[threading.Thread]] = WeakSet()


def outlive(thread: threading.Thread) -> None:
    """Have the end of the interpreter wait for a thread that frees its engine by itself.

    llama.cpp calls its log function meanwhile. A thread that the interpreter cuts off in there takes the process along.
    """
    _freeing.add(thread)


def wait_for(thread: threading.Thread, hangs: Callable[[], bool]) -> None:
    """Wait until a thread of an engine has ended, or hangs: no longer than one step may take.

    Args:
        thread: another than this one.
        hangs: the watchdog has given its step up.
    """
    while thread.is_alive() and not hangs():
        thread.join(_LOOK)


def finish_closing(close: Callable[[], None]) -> None:
    """Close what was dropped. Where Ctrl-C ends that, nobody is left to do it again, or to be told.

    So a thread goes on with it, and Ctrl-C is pressed again.

    Args:
        close: idempotent, and to be called again after an interrupt.
    """
    try:
        close()
    except KeyboardInterrupt:
        rest = threading.Thread(target=close, name="fastinfer-close", daemon=True)
        outlive(rest)
        rest.start()
        press_again()


def _wait() -> None:
    for thread in list(_freeing):
        thread.join(_PATIENCE)


atexit.register(_wait)


class Lifeline:
    """The part of an engine that refuses work when it is over.

    Attributes:
        closed: the engine was closed.
        dead: what ended it, if something did.
        hangs: a step of it takes longer than it may, and may never end.
        alias: what it is called in logs.
        step_timeout: seconds that one step may take.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self.alias = "an engine"
        self.closed = False
        self.dead: BaseException | None = None
        self.hangs = False
        self.step_timeout = math.inf

    @property
    def is_elsewhere(self) -> bool:
        """This is another process than the one that made the engine."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Refuse work once the engine is closed or dead.

        Raises:
            EngineDeadError: it is.
        """
        if self.closed:
            raise EngineDeadError("The engine is closed.", hint="Create a new one.")
        if self.dead is not None:
            raise EngineDeadError("The engine has died.", hint="Create a new one.") from self.dead

    def check_process(self) -> None:
        """Refuse work in another process. To be called before any lock is taken.

        A thread that held a lock at the fork is not there to release it.

        Raises:
            EngineDeadError: this is another process than the one that made the engine.
        """
        if self.is_elsewhere:
            raise EngineDeadError(
                "The engine was created before a fork and does not exist in this process.",
                hint="Create it in the child, or start processes with the 'spawn' method.",
            )
