"""fastinfer, through its public functions, in a process of its own together with its clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .workload import SAMPLING, Record, Request, Run, Workload, drive, drive_async


def open_ours(options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any], Callable[[], None]]:
    """Open ``fastinfer.llm``; workloads are driven by threads, by one asyncio loop, or by ``chat_many``."""
    import llama_cpp  # before numpy

    import fastinfer

    started = time.perf_counter()
    llm = fastinfer.llm(options["preset"], model=options["model"], **options["changes"])
    keywords: dict[str, Any] = {"ignore_eos": True, **SAMPLING}

    def stream(request: Request) -> Iterator[Any]:
        pieces = llm.stream(request.messages, max_tokens=request.max_tokens, **keywords)
        for piece in pieces:
            yield str(piece)
        yield counts(getattr(pieces, "reply", None)) or {"completion_tokens": request.max_tokens}

    async def stream_async(request: Request) -> AsyncIterator[Any]:
        pieces = llm.astream(request.messages, max_tokens=request.max_tokens, **keywords)
        async for piece in pieces:
            yield str(piece)
        yield counts(getattr(pieces, "reply", None)) or {"completion_tokens": request.max_tokens}

    def many(workload: Workload) -> Run:
        conversations = [request.messages for request in workload.requests]
        begun = time.perf_counter()
        records = []
        for reply in llm.chat_many(conversations, max_tokens=workload.requests[0].max_tokens, **keywords):
            records.append(Record(0.0, [time.perf_counter() - begun], counts(reply)))
        return Run(records, time.perf_counter() - begun)

    def handle(what: Any) -> Any:
        if what == "engine_profile":
            return dict(llm.engine_profile())
        if what == "metrics":
            return dict(llm.metrics())
        if what.batch:
            return many(what)
        if options["clients"] == "asyncio":
            return asyncio.run(drive_async(stream_async, what))
        return drive(stream, what)

    info = {
        "library": llama_cpp.llama_cpp._lib._name,
        "preset": options["preset"],
        "changes": options["changes"],
        "clients": options["clients"],
        "provenance": str(getattr(llm, "provenance", "")),
        "start_seconds": round(time.perf_counter() - started, 1),
    }
    return info, handle, llm.close


def counts(reply: Any) -> dict[str, float]:
    """What a reply says of its tokens and times; nothing where a stream does not give one."""
    if reply is None:
        return {}
    usage, timings = reply.usage, reply.timings
    found = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
    }
    for name in ("queued_ms", "prompt_ms", "predicted_ms"):
        found[name] = getattr(timings, name, 0.0)
    return found
