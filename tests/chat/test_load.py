"""Many callers at once: every reply is the right one, and what is over the limit is refused and nothing lost."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastinfer.errors import QueueFullError, RequestTimeoutError

QUESTIONS = [f"hello {'world ' * (i % 7)}{i}" for i in range(40)]
ASKED = {"seed": 3, "max_tokens": 16}


@pytest.fixture(scope="module")
def expected(llm):
    """What each question is answered with when it is asked alone."""
    return {question: llm.chat(question, **ASKED).text for question in QUESTIONS}


def test_sixty_four_threads_on_four_slots(llm, expected, idle):
    def work(number):
        chosen = random.Random(number).sample(QUESTIONS, 6)
        return [(question, llm.chat(question, **ASKED).text) for question in chosen]

    with ThreadPoolExecutor(64) as pool:
        answers = [pair for pairs in pool.map(work, range(64)) for pair in pairs]
    assert len(answers) == 384
    assert all(text == expected[question] for question, text in answers)
    idle(llm)


async def test_two_hundred_tasks_on_four_slots(llm, expected):
    async def read(question):
        return "".join([piece async for piece in llm.astream(question, **ASKED)])

    async def ask(question):
        return (await llm.achat(question, **ASKED)).text

    questions = [random.Random(number).choice(QUESTIONS) for number in range(200)]
    tasks = [(ask if number % 2 else read)(question) for number, question in enumerate(questions)]
    assert await asyncio.gather(*tasks) == [expected[question] for question in questions]
    assert llm.metrics()["llamacpp:requests_processing"] == 0


def test_every_way_at_once(llm, expected, idle):
    failures = []

    def check(question, text):
        if text != expected[question]:
            failures.append((question, text))

    def chats():
        for question in QUESTIONS:
            check(question, llm.chat(question, **ASKED).text)

    def streams():
        for question in QUESTIONS:
            check(question, "".join(llm.stream(question, **ASKED)))

    def many():
        for question, reply in zip(QUESTIONS, llm.chat_many(QUESTIONS, **ASKED), strict=True):
            check(question, reply.text)

    def tasks():
        async def main():
            replies = await asyncio.gather(*[llm.achat(question, **ASKED) for question in QUESTIONS])
            for question, reply in zip(QUESTIONS, replies, strict=True):
                check(question, reply.text)

        asyncio.run(main())

    def quitters():
        for question in QUESTIONS:
            with llm.stream(question, max_tokens=0, ignore_eos=True) as stream:
                next(stream)

    def late():
        for question in QUESTIONS[:10]:
            with pytest.raises(RequestTimeoutError):
                llm.chat(question, max_tokens=0, ignore_eos=True, timeout=0.01)

    threads = [threading.Thread(target=work) for work in (chats, streams, many, tasks, quitters, late) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    idle(llm)


def test_ten_times_the_queue_is_refused_and_nothing_is_lost(fresh, idle):
    llm = fresh(max_queue=8, parallel=2)
    before = llm.chat("hello", **ASKED).text
    streams, refused = [], []
    for number in range(80):
        try:
            streams.append(llm.stream(f"hello {number}", max_tokens=40, ignore_eos=True, seed=1))
        except QueueFullError as error:
            refused.append(error)
    assert len(streams) + len(refused) == 80
    assert len(streams) >= 8
    assert len(refused) >= 40
    assert "max_queue" in refused[0].hint
    for stream in streams:
        list(stream)
        assert stream.reply.usage.completion_tokens == 40
    idle(llm)
    assert llm.chat("hello", **ASKED).text == before
    assert len(list(llm.chat_many(["hello"] * 40, **ASKED))) == 40


async def test_tasks_over_the_limit_are_refused_one_by_one(fresh):
    llm = fresh(max_queue=8, parallel=2)
    tasks = [llm.achat(f"hello {number}", max_tokens=40, ignore_eos=True) for number in range(80)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, QueueFullError)]
    answered = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(refused) + len(answered) == 80
    assert all(answer.usage.completion_tokens == 40 for answer in answered)
    assert refused
    assert (await llm.achat("hello", max_tokens=2)).error is None


@pytest.mark.slow
def test_ten_thousand_conversations_run_in_the_memory_of_a_few(llm):
    psutil = pytest.importorskip("psutil")
    process, start, peak, count = psutil.Process(), 0, 0, 0
    for count, _ in enumerate(llm.chat_many((f"hello {i}" for i in range(10_000)), max_tokens=2), 1):
        if count == 500:
            start = process.memory_info().rss
        elif count % 500 == 0:
            peak = max(peak, process.memory_info().rss)
    assert count == 10_000
    assert peak - start < 20 * 2**20
