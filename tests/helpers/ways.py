"""Every way in, asked the same: what comes out for each item, an error in the place of the item that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastinfer.errors import FastInferError

__all__ = ["Replied", "all_chats", "all_classifications", "each_chat", "stands_in_its_place"]


@dataclass(frozen=True, slots=True)
class Replied:
    """What is compared of a reply, whichever way it came."""

    text: str
    finish_reason: str
    tokens: int

    @classmethod
    def of(cls, reply: Any) -> Replied | Exception:
        """Of a reply, or the error that it is."""
        return reply.error or cls(reply.text, reply.finish_reason, reply.usage.completion_tokens)


def _attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except FastInferError as error:
        return error


def _until_it_raises(results: Any) -> list[Any]:
    found = []
    try:
        for result in results:
            found.append(result)
    except FastInferError as error:
        found.append(error)
    return found


async def _until_it_raises_async(results: Any) -> list[Any]:
    found = []
    try:
        async for result in results:
            found.append(result)
    except FastInferError as error:
        found.append(error)
    return found


async def all_classifications(
    clf: Any, images: Sequence[Any], *, returning: bool = True, raising: bool = True
) -> AsyncIterator[tuple[str, list[Any]]]:
    """Each way of classifying by its name, with a result or an error for each image up to where the way ends.

    Args:
        clf: the classifier.
        images: what is asked.
        returning: the ways that go on after an error.
        raising: those that end with it.
    """
    if returning:
        async for way in _returning(clf, images):
            yield way
    if raising:
        yield "classify_many, raising", _until_it_raises(clf.classify_many(images))
        yield "aclassify_many, raising", await _until_it_raises_async(clf.aclassify_many(images))
        yield "in fixed batches, raising", _until_it_raises(clf.classify_many(images, reproducible=True))


async def _returning(clf: Any, images: Sequence[Any]) -> AsyncIterator[tuple[str, list[Any]]]:
    told = {"errors": "return"}
    yield "classify", [_attempt(lambda image=image: clf.classify(image)) for image in images]
    yield "aclassify", await asyncio.gather(*map(clf.aclassify, images), return_exceptions=True)
    yield "classify_many", [r.error or r for r in clf.classify_many(images, **told)]
    yield "aclassify_many", [r.error or r async for r in clf.aclassify_many(images, **told)]
    yield "in fixed batches", [r.error or r for r in clf.classify_many(images, reproducible=True, **told)]


def _streamed(llm: Any, messages: Any, options: dict[str, Any]) -> Any:
    with llm.stream(messages, **options) as stream:
        text = "".join(map(str, stream))
        assert text == stream.reply.text
        return stream.reply


async def _streamed_async(llm: Any, messages: Any, options: dict[str, Any]) -> Any:
    try:
        async with llm.astream(messages, **options) as stream:
            text = "".join([str(piece) async for piece in stream])
            assert text == stream.reply.text
            return stream.reply
    except FastInferError as error:
        return error


def _replied(replies: Sequence[Any]) -> list[Any]:
    return [reply if isinstance(reply, BaseException) else Replied.of(reply) for reply in replies]


async def each_chat(llm: Any, messages: Any, **options: Any) -> AsyncIterator[tuple[str, Any]]:
    """Each way of asking one conversation, with what is compared of its reply, or its error."""
    yield "chat", _replied([_attempt(lambda: llm.chat(messages, **options))])[0]
    yield "achat", _replied(await asyncio.gather(llm.achat(messages, **options), return_exceptions=True))[0]
    yield "stream", _replied([_attempt(lambda: _streamed(llm, messages, options))])[0]
    yield "astream", _replied([await _streamed_async(llm, messages, options)])[0]


async def all_chats(llm: Any, asked: Sequence[Any], **options: Any) -> AsyncIterator[tuple[str, list[Any]]]:
    """Each way of asking several conversations, with a reply or an error for each up to where the way ends."""
    told = {"errors": "return", **options}
    yield (
        "achat side by side",
        _replied(await asyncio.gather(*(llm.achat(messages, **options) for messages in asked), return_exceptions=True)),
    )
    yield "chat_many", _replied(list(llm.chat_many(asked, **told)))
    yield "achat_many", _replied([reply async for reply in llm.achat_many(asked, **told)])
    yield "chat_many, raising", _replied(_until_it_raises(llm.chat_many(asked, **options)))
    yield "achat_many, raising", _replied(await _until_it_raises_async(llm.achat_many(asked, **options)))


def stands_in_its_place(
    way: str, found: Sequence[Any], good: Sequence[Any], hole: int, same: Callable[[Any, Any], None]
) -> Any:
    """Check that all but the item at ``hole`` came out as without it; the error that stands there.

    Args:
        way: its name; one that is "raising" ends there.
        found: what came out.
        good: results of the other items.
        hole: the place of the item that failed.
        same: raises where two results differ.
    """
    expected = [*good[:hole], None, *(() if way.endswith("raising") else good[hole:])]
    assert len(found) == len(expected), way
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if place != hole:
            assert not isinstance(one, BaseException), (way, place, one)
            same(one, other)
    assert isinstance(found[hole], FastInferError), (way, found[hole])
    return found[hole]
