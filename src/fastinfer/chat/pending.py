"""A chat whose whole reply is waited for."""

from __future__ import annotations

import asyncio
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol

from fastinfer.chat.delivery import Collector
from fastinfer.chat.exchange import Exchange
from fastinfer.chat.results import Reply
from fastinfer.engines.chat import Ticket
from fastinfer.errors import FastInferError, RequestTimeoutError
from fastinfer.interrupts import answer_of

__all__ = ["Engine", "PendingChat", "hung", "patience"]

#: Seconds beyond a request's timeout after which an engine that does not answer counts as hung.
_GRACE = 10.0


class Engine(Protocol):
    """What whoever waits for a reply needs of the engine, which lives on for as long as it is waited for."""

    def check_process(self) -> None:
        """Raise EngineDeadError in a forked process, where nobody would ever answer."""
        ...


def patience(timeout: float | None) -> float | None:
    """Seconds to wait for the engine, which enforces the timeout itself as long as it runs."""
    return None if timeout is None else timeout + _GRACE


def hung(wait: float | None) -> RequestTimeoutError:
    """The error for an engine that does not even report that the time is over."""
    return RequestTimeoutError(
        f"The engine has not answered for {wait or 0:g} seconds.",
        hint="It may hang: close it and create a new one.",
    )


class PendingChat:
    """A submitted chat; see :class:`fastinfer.ordered.Pending`."""

    def __init__(
        self, engine: Engine, exchange: Exchange, collector: Collector, ticket: Ticket, timeout: float | None
    ) -> None:
        self._engine, self._exchange, self._collector, self._ticket = engine, exchange, collector, ticket
        self._wait = patience(timeout)

    def result(self) -> Reply:
        """The reply; waits for it. An interrupted wait cancels the request."""
        self._engine.check_process()
        try:
            deltas, outcome = answer_of(self._collector.future, self._wait)
        except BaseException as error:
            self._ticket.cancel()
            if isinstance(error, FutureTimeoutError) and not isinstance(error, FastInferError):
                raise hung(self._wait) from error
            raise
        return self._exchange.whole(deltas, outcome)

    async def aresult(self) -> Reply:
        """The reply; awaits it. A cancelled wait cancels the request."""
        self._engine.check_process()
        try:
            deltas, outcome = await asyncio.wait_for(asyncio.wrap_future(self._collector.future), self._wait)
        except BaseException as error:
            self._ticket.cancel()
            if isinstance(error, asyncio.TimeoutError) and not isinstance(error, FastInferError):
                raise hung(self._wait) from error
            raise
        return self._exchange.whole(deltas, outcome)

    def cancel(self) -> None:
        """Drop it; nobody will wait for it."""
        self._ticket.cancel()
