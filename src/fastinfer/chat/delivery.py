"""Sinks: from the engine's thread to whoever waits for a reply, without ever making the engine wait."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections import deque
from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import Union

from fastinfer.engines.chat import Delta, Outcome
from fastinfer.interrupts import Answer, slices

__all__ = ["AsyncEvents", "Collector", "Event", "Events"]

Event = Union[Delta, Outcome, Exception]  # noqa: UP007


class Collector:
    """Gathers a whole reply; :attr:`future` holds its deltas and outcome."""

    whole = True

    def __init__(self) -> None:
        self.future: Answer[tuple[list[Delta], Outcome]] = Answer()
        self._deltas: list[Delta] = []

    def put(self, delta: Delta) -> None:
        """More of the reply."""
        self._deltas.append(delta)

    def finish(self, outcome: Outcome) -> None:
        """The reply is complete."""
        try:
            self.future.set_result((self._deltas, outcome))
        except InvalidStateError:
            return  # its task was cancelled, and nobody waits

    def fail(self, error: Exception) -> None:
        """The request failed."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return


class Events:
    """Hands a reply on as it comes, to another thread."""

    whole = False

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.put = self.finish = self.fail = self._queue.put

    def next(self, timeout: float | None) -> Event:
        """The next event; waits for it.

        Raises:
            queue.Empty: there was none within ``timeout`` seconds.
        """
        for seconds in slices(timeout):
            with suppress(queue.Empty):
                return self._queue.get(timeout=seconds)
        raise queue.Empty


class _Waker:
    """Wakes an event loop once for everything that was delivered to it since it last ran."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._ready: deque[AsyncEvents] = deque()
        self._called = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Waker:
        with _WAKERS_LOCK:
            waker = _WAKERS.get(loop)
            if waker is None:
                waker = _WAKERS[loop] = cls(loop)
            return waker

    def wake(self, events: AsyncEvents) -> None:
        self._ready.append(events)
        if not self._called:
            self._called = True
            loop = self._loop()
            try:
                if loop is not None:
                    loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                return  # the loop is closed, and with it everyone who waited

    def _run(self) -> None:
        self._called = False
        while self._ready:
            self._ready.popleft().arrived.set()


_WAKERS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waker] = weakref.WeakKeyDictionary()
_WAKERS_LOCK = threading.Lock()


class AsyncEvents:
    """Hands a reply on as it comes, to a coroutine of the running event loop."""

    whole = False

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._events: deque[Event] = deque()
        self._waker = _Waker.of(asyncio.get_running_loop())

    def put(self, event: Event) -> None:
        """The next event, from any thread."""
        self._events.append(event)
        self._waker.wake(self)

    finish = fail = put

    async def next(self, timeout: float | None) -> Event:
        """The next event; awaits it.

        Raises:
            asyncio.TimeoutError: there was none within ``timeout`` seconds.
        """
        while not self._events:
            self.arrived.clear()
            if self._events:
                break
            if timeout is None:
                await self.arrived.wait()
            else:
                await asyncio.wait_for(self.arrived.wait(), timeout)
        return self._events.popleft()
