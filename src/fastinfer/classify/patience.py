"""How long whoever waits for an image of a stream goes on waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from fastinfer.errors import FastInferError, RequestTimeoutError
from fastinfer.interrupts import answer_of

__all__ = ["Patience"]

_Result = TypeVar("_Result")


class Patience:
    """The time of one image, which runs from now on.

    Args:
        timeout: seconds; None waits as long as it takes.
        late: the error where they have passed.
    """

    def __init__(self, timeout: float | None, late: Callable[[], RequestTimeoutError]) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._late = late

    def answer(self, future: Future[_Result], give_up: Callable[[], None]) -> _Result:
        """What the future comes to; waits for it.

        Args:
            future: what is waited for.
            give_up: takes the image back where that takes too long. Not kept: the image, which has this object, would
                wait for the garbage collector.

        Raises:
            RequestTimeoutError: it did not come in time.
        """
        try:
            return answer_of(future, self._left())
        except FutureTimeoutError as error:
            raise self._ended_by(error, give_up) from error

    async def aanswer(self, answer: Awaitable[_Result], give_up: Callable[[], None]) -> _Result:
        """:meth:`answer` for asyncio."""
        try:
            return await asyncio.wait_for(answer, self._left())
        except asyncio.TimeoutError as error:
            raise self._ended_by(error, give_up) from error

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _ended_by(self, error: BaseException, give_up: Callable[[], None]) -> BaseException:
        if isinstance(error, FastInferError):  # the engine's own, which is a TimeoutError too
            return error
        give_up()
        return self._late()
