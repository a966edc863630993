"""Conversations through a loaded chat model, as its clients see them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastinfer.errors import FastInferError, MessageError
from fastinfer.interrupts import answer_of, heeded
from fastinfer.measuring.figures import Figures, load_text, percentile
from fastinfer.measuring.memory import PeakMemory

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM
    from fastinfer.chat.results import Reply
    from fastinfer.prompts import Messages

__all__ = ["measure_chat"]


@dataclass(slots=True)
class _Conversation:
    """What a client noted: when it asked, when each piece came, and how it ended; seconds of one clock."""

    asked: float
    pieces: list[float] = field(default_factory=list)
    reply: Reply | None = None


def measure_chat(
    llm: LLM,
    prompts: Sequence[Messages],
    *,
    max_tokens: int = 128,
    concurrency: int | None = None,
    items: int | None = None,
) -> Figures:
    """Have prompts answered, by clients that each ask for their next reply when the last one has come.

    A reply goes on to ``max_tokens`` where the model would end it, so that every measurement generates as much; only a
    chat template for base models still ends one, at a string of its own. Six digits are put before the prompts, others
    in every call: a prompt that was measured before would else be taken from the cache. A beginning that the prompts
    share with each other is shared as it always is.

    Args:
        llm: the model.
        prompts: conversations, each as :meth:`fastinfer.LLM.chat` takes it.
        max_tokens: of a reply, 1 and up.
        concurrency: the number of clients; None is one for each slot of the model.
        items: how many prompts are answered, from the first and round again; None is each once.

    Raises:
        MessageError: there are no prompts.
        FastInferError: every one of them failed; the first one's error.
    """
    if not prompts:
        raise MessageError("There are no prompts to measure with.", hint="Give at least one.")
    clients = concurrency or llm.preset.parallel
    salt = random.randrange(10**6)
    over = threading.Event()
    failures: list[FastInferError] = []

    def ask(number: int) -> _Conversation | None:
        noted = _Conversation(time.perf_counter())
        try:
            options: dict[str, Any] = {"max_tokens": max_tokens, "ignore_eos": True, "seed": number}
            rounds, place = divmod(number, len(prompts))
            messages = _salted(prompts[place], f"{(salt + rounds) % 10**6:06}")
            with llm.stream(messages, **options) as stream:
                for _ in stream:
                    noted.pieces.append(time.perf_counter())
                    if over.is_set():
                        return None
                noted.reply = stream.reply
        except FastInferError as error:
            failures.append(error)
            return None
        return noted

    with heeded(), PeakMemory(llm.provenance.device) as memory:
        started = time.perf_counter()
        with ThreadPoolExecutor(clients, thread_name_prefix="fastinfer-client") as pool:
            pending = [pool.submit(ask, number) for number in range(items or len(prompts))]
            try:
                answered = [noted for future in pending if (noted := answer_of(future)) is not None]
            except BaseException:
                # Ctrl-C, mostly: those who ask stop with their next piece, those who would have asked do not.
                over.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        seconds = time.perf_counter() - started
    if not answered:
        raise failures[0]
    return _figures(answered, len(failures), seconds, clients, memory)


def _figures(
    answered: Sequence[_Conversation], errors: int, seconds: float, clients: int, memory: PeakMemory
) -> Figures:
    replies = [noted.reply for noted in answered if noted.reply is not None]
    tokens = sum(reply.usage.completion_tokens for reply in replies)
    whole = [noted.pieces[-1] - noted.asked for noted in answered if noted.pieces] or [seconds]
    first = [(reply.timings.queued_ms + reply.timings.prompt_ms) / 1e3 for reply in replies]
    gaps = [b - a for noted in answered for a, b in zip(noted.pieces, noted.pieces[1:], strict=False)]
    return Figures(
        kind="chat",
        items=len(replies),
        errors=errors,
        seconds=seconds,
        throughput=tokens / seconds,
        concurrency=clients,
        latency_p50=percentile(whole, 50),
        latency_p95=percentile(whole, 95),
        latency_p99=percentile(whole, 99),
        latency_load=load_text(clients),
        tokens=tokens,
        prompt_tokens=sum(reply.usage.prompt_tokens for reply in replies),
        cached_tokens=sum(reply.usage.cached_tokens for reply in replies),
        ttft_p50=percentile(first, 50),
        ttft_p95=percentile(first, 95),
        inter_token_p50=percentile(gaps, 50),
        inter_token_p95=percentile(gaps, 95),
        memory=memory.process,
        gpu_memory=memory.gpu,
    )


def _salted(messages: Any, salt: str) -> Any:
    """The conversation with the salt before the first text in it; what is no conversation is left to the model."""
    if isinstance(messages, str):
        return f"{salt} {messages}"
    if not isinstance(messages, Sequence) or not messages or not isinstance(messages[0], Mapping):
        return messages
    first, *others = messages
    content = first.get("content")
    if isinstance(content, str):
        return [{**first, "content": f"{salt} {content}"}, *others]
    if isinstance(content, Sequence):
        return [{**first, "content": [{"type": "text", "text": salt}, *content]}, *others]
    return messages
