"""Requests, the clients that send them, and what is noted of each reply. All sides import it: standard library only."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

Message = dict[str, str]
Stream = Callable[["Request"], Iterator[Any]]  # yields pieces of text, and counts as dicts
AsyncStream = Callable[["Request"], AsyncIterator[Any]]

SAMPLING: dict[str, float | int] = {
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 60,
    "min_p": 0.05,
    "repeat_last_n": 64,
    "repeat_penalty": 1.05,
}


@dataclass(frozen=True)
class Request:
    """One conversation to continue by exactly ``max_tokens`` tokens."""

    messages: list[Message]
    max_tokens: int


@dataclass(frozen=True)
class Workload:
    """Requests for ``clients`` clients, each of which sends its next when its last is answered.

    Attributes:
        requests: in the order in which clients take them.
        clients: how many there are.
        intruder: a request of one more client, sent when the first ``clients`` replies have ``intruder_after`` pieces.
        intruder_after: see there.
        batch: give all requests at once to the side's own call for many conversations, where it has one.
    """

    requests: list[Request]
    clients: int
    intruder: Request | None = None
    intruder_after: int = 0
    batch: bool = False


@dataclass
class Record:
    """What happened to a request; times in seconds from the start of the workload.

    Attributes:
        started: when its client sent it.
        pieces: when each piece of text came.
        counts: prompt_tokens, completion_tokens and cached_tokens, and what else the side says.
        error: what went wrong, or None.
    """

    started: float
    pieces: list[float] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Run:
    """A workload's records, the intruder's apart, and how long all of it took.

    Attributes:
        elsewhere: CPU cores that other programs took meanwhile, on average; ``Bench.run`` fills it in.
    """

    records: list[Record]
    seconds: float
    intruder: Record | None = None
    elsewhere: float = 0.0


def drive(stream: Stream, workload: Workload) -> Run:
    """Send the requests from threads, a thread a client."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for place in range(len(workload.requests)):
        waiting.put(place)
    records = [Record(0.0) for _ in workload.requests]
    underway = threading.Semaphore(0)
    begin = threading.Event()
    start = 0.0

    def follow(request: Request, record: Record) -> None:
        record.started = time.perf_counter() - start
        try:
            for item in stream(request):
                if isinstance(item, dict):
                    record.counts.update(item)
                elif item:
                    record.pieces.append(time.perf_counter() - start)
                    if len(record.pieces) == workload.intruder_after:
                        underway.release()
        except Exception as error:  # noqa: BLE001  a failed request is a figure
            record.error = f"{type(error).__name__}: {error}"
            underway.release()

    def client() -> None:
        begin.wait()
        while True:
            try:
                place = waiting.get_nowait()
            except Empty:
                return
            follow(workload.requests[place], records[place])

    threads = [threading.Thread(target=client) for _ in range(workload.clients)]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    begin.set()
    intruder = None
    if workload.intruder is not None:
        for _ in range(workload.clients):
            underway.acquire()
        intruder = Record(0.0)
        follow(workload.intruder, intruder)
    for thread in threads:
        thread.join()
    return Run(records, time.perf_counter() - start, intruder)


async def drive_async(stream: AsyncStream, workload: Workload) -> Run:
    """Send the requests from one asyncio loop, a task a client."""
    waiting = iter(range(len(workload.requests)))
    records = [Record(0.0) for _ in workload.requests]
    underway = asyncio.Semaphore(0)
    start = time.perf_counter()

    async def follow(request: Request, record: Record) -> None:
        record.started = time.perf_counter() - start
        try:
            async for item in stream(request):
                if isinstance(item, dict):
                    record.counts.update(item)
                elif item:
                    record.pieces.append(time.perf_counter() - start)
                    if len(record.pieces) == workload.intruder_after:
                        underway.release()
        except Exception as error:  # noqa: BLE001  a failed request is a figure
            record.error = f"{type(error).__name__}: {error}"
            underway.release()

    async def client() -> None:
        for place in waiting:
            await follow(workload.requests[place], records[place])

    tasks = [asyncio.create_task(client()) for _ in range(workload.clients)]
    intruder = None
    if workload.intruder is not None:
        for _ in range(workload.clients):
            await underway.acquire()
        intruder = Record(0.0)
        await follow(workload.intruder, intruder)
    await asyncio.gather(*tasks)
    return Run(records, time.perf_counter() - start, intruder)
