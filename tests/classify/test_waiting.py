"""Timeouts, cancelled tasks and event loops: one caller who gives up costs the others nothing."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time

import pytest

from fastinfer.errors import RequestTimeoutError


@pytest.fixture
def backlog(shared, pictures):
    """Keep the classifier busy during the test."""
    stop = threading.Event()

    def work():
        for _ in shared.classify_many(itertools.cycle(pictures)):
            if stop.is_set():
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    yield
    stop.set()
    for thread in threads:
        thread.join()


def test_a_timeout_is_an_error_that_names_the_image(shared, pictures, backlog, tmp_path):
    path = tmp_path / "late.png"
    pictures[0].save(path)
    with pytest.raises(RequestTimeoutError, match=r"late\.png was not classified within 0\.0001 s") as error:
        shared.classify(path, timeout=0.0001)
    assert error.value.hint
    assert isinstance(error.value, TimeoutError)


@pytest.mark.parametrize("timeout", [0, 0.0001])
async def test_an_asynchronous_timeout_is_the_same_error(shared, pictures, backlog, timeout):
    with pytest.raises(RequestTimeoutError, match="was not classified within"):
        await shared.aclassify(pictures[0], timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 60])
async def test_a_request_within_its_timeout_is_answered(shared, pictures, same, timeout):
    expected = shared.classify(pictures[0])
    same(shared.classify(pictures[0], timeout=timeout), expected)
    same(await shared.aclassify(pictures[0], timeout=timeout), expected)


def test_the_classifier_goes_on_after_timeouts(shared, pictures, same):
    expected = shared.classify(pictures[1])
    for _ in range(30):
        with pytest.raises(RequestTimeoutError):
            shared.classify(pictures[0], timeout=0)
    same(shared.classify(pictures[1], timeout=20), expected)


async def test_the_timeout_of_a_request_does_not_wear_out_the_timeout_around_it(shared, pictures, backlog):
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout came with Python 3.11")
    with pytest.raises(TimeoutError) as error:  # noqa: PT012  the first error is caught inside
        async with asyncio.timeout(0.2):
            with pytest.raises(RequestTimeoutError):
                await shared.aclassify(pictures[0], timeout=0)
            assert asyncio.current_task().cancelling() == 0
            await asyncio.sleep(20)
    assert not isinstance(error.value, RequestTimeoutError)


async def test_wait_for_around_a_request(shared, pictures, backlog):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(shared.aclassify(pictures[0]), 0.0001)


async def test_a_cancelled_task_is_cancelled_and_the_others_are_answered(shared, pictures, same):
    expected = shared.classify(pictures[1])
    tasks = [asyncio.create_task(shared.aclassify(pictures[1])) for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(a, asyncio.CancelledError) for a in answers[::2])
    for answer in answers[1::2]:
        same(answer, expected)


async def test_a_task_cancelled_with_a_timeout_is_cancelled_and_not_timed_out(shared, pictures, backlog):
    task = asyncio.create_task(shared.aclassify(pictures[0], timeout=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_requests_leave_the_queue(fresh, pictures):
    classifier = fresh(workers=1, vision_max_batch_size=1)
    classifier.classify(pictures[0])
    begun = time.monotonic()
    await classifier.aclassify(pictures[0])
    one = time.monotonic() - begun
    tasks = [asyncio.create_task(classifier.aclassify(pictures[0])) for _ in range(150)]
    await asyncio.sleep(0.2)
    done = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    begun = time.monotonic()
    await classifier.aclassify(pictures[0])
    assert done < 120
    assert time.monotonic() - begun < max(20 * one, 0.5)


async def test_a_cancelled_stream_stops(shared, pictures):
    async def consume():
        async for _ in shared.aclassify_many(itertools.cycle(pictures)):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await shared.aclassify(pictures[0], timeout=20)).ok


async def test_the_synchronous_methods_work_inside_a_running_loop(shared, pictures):
    assert shared.classify(pictures[0]).ok
    assert len(list(shared.classify_many(pictures))) == len(pictures)


def test_one_classifier_serves_several_event_loops(shared, pictures):
    async def ask():
        return [r.label for r in await asyncio.gather(*[shared.aclassify(p) for p in pictures])]

    first = asyncio.run(ask())
    answers: list[list[str]] = []
    threads = [threading.Thread(target=lambda: answers.append(asyncio.run(ask()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [first] * 3
