"""The ways of chatting."""

from __future__ import annotations

import asyncio
import random

from fastinfer.errors import MessageError, RequestTimeoutError

from .chats import CHOICE, GREEDY, Asked
from .ledger import Abandoned, WrongContent
from .load import Load, Way

#: Until the context is full, unless somebody ends it.
_ENDLESS = {"max_tokens": 0, "ignore_eos": True, "temperature": 0.8}


def one(load: Load, chance: random.Random) -> None:
    """A chat, waited for; sometimes with log-probabilities."""
    asked = chance.choice(load.chats)
    with load.ledger.request("chat"):
        logprobs = 2 if chance.random() < 0.25 else None
        asked.check(load.llm.chat(asked.messages, logprobs=logprobs, **asked.options), load.ledger)


def stream(load: Load, chance: random.Random) -> None:
    """A chat piece by piece: to its end, or closed, forgotten or left half way; what came is checked."""
    asked = chance.choice(load.chats)
    how = chance.choice(("whole", "whole", "closed", "forgotten", "left", "unread"))
    with load.ledger.request(f"stream, {how}"):
        pieces = load.llm.stream(asked.messages, **asked.options)
        if how == "unread":
            pieces.close()
            raise Abandoned
        if how == "whole":
            asked.check_text("".join(pieces))
            asked.check(pieces.reply, load.ledger)
            return
        said = next(pieces) + next(pieces, "")
        asked.check_beginning(said)
        if how == "closed":
            pieces.close()
        elif how == "left":
            pieces.__exit__(None)
        raise Abandoned  # a forgotten one goes with the frame


def endless(load: Load, chance: random.Random) -> None:
    """A reply without an end, cancelled in its prompt or later."""
    with load.ledger.request("endless stream"):
        long = "word " * chance.choice((10, 10, 30, 300))
        with load.llm.stream(f"{chance.random()} {long}", **_ENDLESS) as pieces:
            if chance.random() < 0.5:
                load.over.wait(chance.random() * 0.1)
            else:
                for _ in range(chance.randrange(1, 12)):
                    next(pieces)
        raise Abandoned


def in_a_hurry(load: Load, chance: random.Random) -> None:
    """A reply that cannot be there in time."""
    with load.ledger.request("chat with a timeout", RequestTimeoutError):
        reply = load.llm.chat("Tell me everything.", timeout=chance.choice((0.01, 0.1, 0.4)), **_ENDLESS)
        raise WrongContent(f"a reply without an end was there in time: {reply.text!r}")
    load.over.wait(0.5)


def many(load: Load, chance: random.Random) -> None:
    """Several conversations, one of them wrong in itself, sometimes left half way."""
    options = {**GREEDY, "max_tokens": 3}
    asked = [one for one in load.chats if one.options["max_tokens"] >= 3]
    chosen: list[Asked | None] = [*chance.choices(asked, k=8)]
    chosen[chance.randrange(8)] = None
    leave = chance.choice((3, 8, 8))
    taken = 0

    def conversations():  # type: ignore[no-untyped-def]
        nonlocal taken
        for each in chosen:
            taken += 1
            load.ledger.add("chat_many", "submitted")
            yield [{"role": "nobody", "content": "hello"}] if each is None else each.messages

    ended = 0
    replies = load.llm.chat_many(conversations(), errors="return", **options)
    for each, reply in zip(chosen, replies, strict=False):
        if each is None:
            right = isinstance(reply.error, MessageError)
        else:
            right = reply.error is None and each.text.startswith(reply.text)
        if right:
            load.ledger.add("chat_many", "failed" if each is None else "answered")
        else:
            load.ledger.fault("chat_many", "wrong", f"{each and each.messages!r}: {reply!r}")
        ended += 1
        if ended == leave:
            break
    replies.close()
    load.ledger.add("chat_many", "cancelled", taken - ended)


def constrained(load: Load, chance: random.Random) -> None:
    """A reply by a schema, or one that is offered a tool."""
    if load.tools is not None and chance.random() < 0.5:
        with load.ledger.request("chat with a tool"):
            load.tools.check(load.llm.chat(load.tools.messages, **load.tools.options), load.ledger)
    else:
        with load.ledger.request("chat with a schema"):
            question = f"Is {chance.randrange(100)} an even number?"
            reply = load.llm.chat(question, schema=CHOICE, temperature=0.9, seed=chance.randrange(1000), max_tokens=60)
            if reply.parsed not in ({"answer": "yes"}, {"answer": "no"}):
                raise WrongContent(f"a reply by a schema is {reply.text!r}, parsed {reply.parsed!r}")
    load.over.wait(0.3)


def tasks(load: Load, chance: random.Random) -> None:
    """A loop of asyncio: chats and streams at once, some of them cancelled."""
    asyncio.run(_tasks(load, chance))


#: Each way asks for one reply at a time, but for these two, which ask for eight.
MOST_AT_ONCE = 7 + 2 * 8
WAYS: tuple[Way, ...] = (one, one, stream, stream, endless, in_a_hurry, many, constrained, tasks)


async def _tasks(load: Load, chance: random.Random) -> None:
    async def ask(asked: Asked) -> None:
        with load.ledger.request("achat"):
            asked.check(await load.llm.achat(asked.messages, **asked.options), load.ledger)

    async def read(asked: Asked, whole: bool) -> None:
        with load.ledger.request("astream"):
            async with load.llm.astream(asked.messages, **asked.options) as pieces:
                said = ""
                async for piece in pieces:
                    said += piece
                    asked.check_beginning(said)
                    if not whole:
                        raise Abandoned
            asked.check_text(said)

    begun = [asyncio.create_task(ask(asked)) for asked in chance.choices(load.chats, k=5)]
    begun += [asyncio.create_task(read(asked, chance.random() < 0.5)) for asked in chance.choices(load.chats, k=3)]
    await asyncio.sleep(chance.random())
    for task in chance.sample(begun, 2):
        task.cancel()
    # One that is cancelled before its first step has not submitted anything.
    for outcome in await asyncio.gather(*begun, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
