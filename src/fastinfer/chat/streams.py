"""Replies as they are generated."""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from fastinfer.chat.delivery import AsyncEvents, Event, Events
from fastinfer.chat.exchange import Exchange
from fastinfer.chat.pending import Engine, hung
from fastinfer.chat.results import Piece, Reply
from fastinfer.engines.chat import Outcome, Ticket
from fastinfer.errors import FastInferError, RequestTimeoutError

__all__ = ["AsyncChatStream", "ChatStream"]


class _Stream:
    """What both kinds share: events in, pieces and at last the reply out."""

    def __init__(self, engine: Engine, exchange: Exchange, ticket: Ticket, wait: float | None) -> None:
        self._engine, self._exchange, self._ticket, self._wait = engine, exchange, ticket, wait
        self._ready: deque[Piece] = deque()
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self._over = self._told = False

    @property
    def reply(self) -> Reply:
        """The whole reply, once the stream has ended; what there was of it where it was closed early.

        Raises:
            RuntimeError: it has not ended yet.
            FastInferError: it failed.
        """
        if self._error is not None:
            raise self._error
        if self._reply is None:
            raise RuntimeError("the stream has not ended yet; exhaust or close it first")
        return self._reply

    def _take(self, event: Event) -> None:
        if isinstance(event, Outcome):
            self._over = True
            self._ready += self._exchange.rest()
            try:
                self._reply = self._exchange.reply(event)
            except FastInferError as error:
                self._error = error
        elif isinstance(event, Exception):
            self._over, self._error = True, event
        else:
            self._ready += self._exchange.add(event)

    def _end(self) -> None:
        """Raise what ended the stream, once; after all pieces before it."""
        if self._error is not None and not self._told:
            self._told = True
            raise self._error

    def _cancel(self) -> None:
        if not self._over:
            self._over = True
            self._ticket.cancel()
            self._reply = self._exchange.cancelled()
        self._told = True
        self._ready.clear()

    def _give_up(self) -> RequestTimeoutError:
        """The engine hangs: the error that says so."""
        self._cancel()
        error = self._error = hung(self._wait)
        return error

    def __del__(self) -> None:
        # An abandoned stream must not keep its slot.
        if not getattr(self, "_over", True):
            self._ticket.cancel()


class ChatStream(_Stream):
    """An iterator of pieces, and a context manager that cancels what is left. For one thread at a time."""

    def __init__(self, engine: Engine, exchange: Exchange, events: Events, ticket: Ticket, wait: float | None) -> None:
        super().__init__(engine, exchange, ticket, wait)
        self._events = events

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        while not self._ready:
            if self._over:
                self._end()
                raise StopIteration
            self._engine.check_process()
            try:
                event = self._events.next(self._wait)
            except queue.Empty as error:
                raise self._give_up() from error
            except BaseException:
                self._cancel()
                raise
            self._take(event)
        return self._ready.popleft()

    def close(self) -> None:
        """Cancel what is left; the slot is free for others. Idempotent."""
        self._cancel()

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class AsyncChatStream(_Stream):
    """The async twin of :class:`ChatStream`."""

    def __init__(
        self, engine: Engine, exchange: Exchange, events: AsyncEvents, ticket: Ticket, wait: float | None
    ) -> None:
        super().__init__(engine, exchange, ticket, wait)
        self._events = events

    def __aiter__(self) -> AsyncChatStream:
        return self

    async def __anext__(self) -> Piece:
        while not self._ready:
            if self._over:
                self._end()
                raise StopAsyncIteration
            self._engine.check_process()
            try:
                event = await self._events.next(self._wait)
            except asyncio.TimeoutError as error:
                raise self._give_up() from error
            except BaseException:
                self._cancel()
                raise
            self._take(event)
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Cancel what is left; the slot is free for others. Idempotent."""
        self._cancel()

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()
