"""How many images may be in work at once, and what happens to callers beyond that."""

from __future__ import annotations

import threading
import time

from fastinfer.errors import QueueFullError
from fastinfer.interrupts import Deferral

__all__ = ["Admission"]


class Admission:
    """A limit on images in work, from before they are decoded until they are classified. Safe from any thread.

    Args:
        limit: the most at once; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._count = self._waiting = 0
        self._open = True
        self._changed = threading.Condition()

    def enter(self, deadline: float | None = None) -> bool:
        """Wait for a place and take it.

        Args:
            deadline: ``time.monotonic()`` at which waiting ends; None waits as long as it takes.

        Returns:
            False where the deadline passed first. After :meth:`close` nobody waits, and all are let in.
        """
        if self._limit is None:
            return True
        with Deferral() as interrupts, self._changed:
            while self._open and self._count >= self._limit:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._waiting += 1
                try:
                    self._changed.wait(interrupts.at_most(left))
                    interrupts.heed()
                finally:
                    self._waiting -= 1
            self._count += 1
            return True

    def enter_now(self) -> None:
        """Take a place without waiting, and never one that others wait for.

        Raises:
            QueueFullError: there is none.
        """
        if self._limit is None:
            return
        with Deferral(), self._changed:
            if self._open and self._count + self._waiting >= self._limit:
                raise QueueFullError(
                    f"{self._count} images are in work and {self._waiting} wait; max_concurrent_requests is "
                    f"{self._limit}.",
                    hint="Wait and try again, leave wait=False out, or raise max_concurrent_requests.",
                )
            self._count += 1

    def leave(self) -> None:
        """Give a place back."""
        if self._limit is None:
            return
        with Deferral(), self._changed:
            self._count -= 1
            self._changed.notify()

    def close(self) -> None:
        """Let everyone in who waits; what they meet then says that all is closed."""
        with Deferral(), self._changed:
            self._open = False
            self._changed.notify_all()
