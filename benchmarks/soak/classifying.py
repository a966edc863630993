"""The ways of classifying."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastinfer.errors import ImageDecodeError, RequestTimeoutError

from .ledger import WrongContent
from .load import Load, Way
from .pictures import Question

#: Every how many images of a stream are bad.
_BAD = 8


def one(load: Load, chance: random.Random) -> None:
    """A picture, waited for."""
    question = chance.choice(load.closed_set())
    with load.ledger.request("classify"):
        question.check(load.classifier.classify(question.image, labels=question.labels), load.tolerance, load.ledger)
    load.over.wait(chance.random() * 0.2)


def in_a_hurry(load: Load, chance: random.Random) -> None:
    """A picture with hardly any time."""
    question = chance.choice(load.closed_set())
    with load.ledger.request("classify with a timeout", RequestTimeoutError):
        seconds = chance.choice((0.001, 0.02, 0.2, 5.0))
        result = load.classifier.classify(question.image, labels=question.labels, timeout=seconds)
        question.check(result, load.tolerance, load.ledger)
    load.over.wait(0.3)


def bad(load: Load, chance: random.Random) -> None:
    """No picture."""
    with load.ledger.request("classify what is no picture", ImageDecodeError):
        raise WrongContent(f"an answer to what is no picture: {load.classifier.classify(chance.choice(load.bad))}")
    load.over.wait(0.3)


def labels(load: Load, chance: random.Random) -> None:
    """The classifier's own labels changed, open set too; this way is the only one that relies on them."""
    question = chance.choice(load.questions)
    with load.ledger.request("labels changed"):
        load.classifier.labels = question.labels
        question.check(load.classifier.classify(question.image), load.tolerance, load.ledger)
    load.over.wait(0.2)


def many(load: Load, chance: random.Random) -> None:
    """A stream of pictures with bad ones among them, now and then left half way."""
    items, names = _stream(load, chance)
    taken = 0
    leave = chance.randrange(1, len(items)) if chance.random() < 0.4 else len(items)

    def images() -> Iterator[Any]:
        nonlocal taken
        for item in items:
            taken += 1
            load.ledger.add("classify_many", "submitted")
            yield item.image if isinstance(item, Question) else item

    ended = 0
    options = {"reproducible": True} if load.classifier.group_size and chance.random() < 0.3 else {}
    results = load.classifier.classify_many(images(), labels=names, errors="return", **options)
    for item, result in zip(items, results, strict=False):
        _end(load, "classify_many", item, result)
        ended += 1
        if ended == leave:
            break
    results.close()
    load.ledger.add("classify_many", "cancelled", taken - ended)
    load.over.wait(chance.random())


def tasks(load: Load, chance: random.Random) -> None:
    """A loop of asyncio: many at once, some with a timeout, some cancelled; and a stream."""
    asyncio.run(_tasks(load, chance))


WAYS: tuple[Way, ...] = (one, one, in_a_hurry, bad, labels, many, tasks)


async def _tasks(load: Load, chance: random.Random) -> None:
    async def ask(question: Question, seconds: float | None) -> None:
        with load.ledger.request("aclassify", *(() if seconds is None else (RequestTimeoutError,))):
            result = await load.classifier.aclassify(question.image, labels=question.labels, timeout=seconds)
            question.check(result, load.tolerance, load.ledger)

    begun = [
        asyncio.create_task(ask(question, chance.choice((None, None, 0.05))))
        for question in chance.choices(load.closed_set(), k=24)
    ]
    await asyncio.sleep(chance.random() * 0.3)
    for task in chance.sample(begun, 6):
        task.cancel()
    # One that is cancelled before its first step has not submitted anything.
    for outcome in await asyncio.gather(*begun, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    await _amany(load, chance)


async def _amany(load: Load, chance: random.Random) -> None:
    items, names = _stream(load, chance)
    taken = 0

    async def images() -> AsyncIterator[Any]:
        nonlocal taken
        for item in items:
            taken += 1
            load.ledger.add("aclassify_many", "submitted")
            yield item.image if isinstance(item, Question) else item

    ended, leave = 0, chance.choice((5, len(items)))
    results = load.classifier.aclassify_many(images(), labels=names, errors="return")
    async for result in results:
        _end(load, "aclassify_many", items[ended], result)
        ended += 1
        if ended == leave:
            break
    await results.aclose()
    load.ledger.add("aclassify_many", "cancelled", taken - ended)


def _stream(load: Load, chance: random.Random) -> tuple[list[Any], tuple[str, ...]]:
    """Pictures with one label set, and bad ones among them."""
    names = chance.choice(load.closed_set()).labels or ()
    good = [question for question in load.questions if question.labels == names]
    length = chance.randrange(10, 40)
    return [chance.choice(load.bad if number % _BAD == 3 else good) for number in range(length)], names


def _end(load: Load, kind: str, item: Any, result: Any) -> None:
    """Count what became of an item of a stream."""
    if isinstance(item, Question):
        if result.error is not None:
            load.ledger.fault(kind, "unexpected", f"{item.name}: {result.error!r}")
            return
        try:
            item.check(result, load.tolerance, load.ledger)
        except WrongContent as wrong:
            load.ledger.fault(kind, "wrong", str(wrong))
        else:
            load.ledger.add(kind, "answered")
    elif isinstance(result.error, ImageDecodeError):
        load.ledger.add(kind, "failed")
    else:
        load.ledger.fault(kind, "wrong", f"what is no picture came back as {result}")
