"""max_concurrent_requests: callers beyond it wait, or are told so, and every place comes back whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastinfer.classify.admission import Admission
from fastinfer.errors import EngineError, ImageDecodeError, QueueFullError, RequestTimeoutError


def taken(admission: Admission, most: int) -> int:
    """Places that are taken, counted by taking all others and giving them back."""
    free = 0
    while free <= most:
        try:
            admission.enter_now()
        except QueueFullError:
            break
        free += 1
    for _ in range(free):
        admission.leave()
    return most - free


def assert_all_free(admission: Admission, most: int = 2) -> None:
    """All places come back, those of work that is just ending in a moment."""
    until = time.monotonic() + 20
    while (now := taken(admission, most)) and time.monotonic() < until:
        time.sleep(0.002)
    assert now == 0


def test_no_more_than_the_limit_are_in_at_once() -> None:
    admission, lock, inside, seen = Admission(3), threading.Lock(), [0], []

    def work(_: int) -> None:
        assert admission.enter()
        with lock:
            inside[0] += 1
            seen.append(inside[0])
        time.sleep(0.0005)
        with lock:
            inside[0] -= 1
        admission.leave()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(200)))
    assert len(seen) == 200
    assert max(seen) == 3
    assert taken(admission, 3) == 0


def test_a_caller_waits_until_a_place_is_given_back() -> None:
    admission, entered = Admission(1), threading.Event()
    admission.enter()
    waiter = threading.Thread(target=lambda: admission.enter() and entered.set())
    waiter.start()
    assert not entered.wait(0.05)
    admission.leave()
    assert entered.wait(10)
    waiter.join()
    assert taken(admission, 1) == 1


def test_waiting_ends_at_the_deadline_and_takes_nothing() -> None:
    admission = Admission(1)
    assert admission.enter(time.monotonic())
    begun = time.monotonic()
    assert not admission.enter(begun + 0.05)
    assert 0.04 < time.monotonic() - begun < 5
    assert not admission.enter(begun - 1)
    admission.leave()
    assert taken(admission, 1) == 0


def test_without_a_place_a_caller_who_does_not_wait_is_told_the_number_and_what_to_do() -> None:
    admission = Admission(2)
    admission.enter_now()
    admission.enter_now()
    with pytest.raises(
        QueueFullError, match=r"^2 images are in work and 0 wait; max_concurrent_requests is 2\."
    ) as error:
        admission.enter_now()
    assert error.value.hint is not None
    assert "wait=False" in error.value.hint
    admission.leave()
    admission.enter_now()


def test_a_place_that_others_wait_for_is_not_taken_from_them() -> None:
    admission, order = Admission(1), []
    admission.enter()
    waiter = threading.Thread(target=lambda: order.append(admission.enter()))
    waiter.start()
    while not admission._waiting:
        time.sleep(0.001)
    admission.leave()  # the waiter is woken, but may not have run yet
    with pytest.raises(QueueFullError, match="max_concurrent_requests is 1"):
        admission.enter_now()
    waiter.join(10)
    assert order == [True]


def test_none_is_no_limit() -> None:
    admission = Admission(None)
    for _ in range(1000):
        assert admission.enter(0.0)
        admission.enter_now()
    admission.leave()
    admission.close()


def test_closing_lets_all_in_who_wait_and_all_who_come_later() -> None:
    admission, entered = Admission(1), []
    admission.enter()
    waiters = [threading.Thread(target=lambda: entered.append(admission.enter())) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.05)
    assert entered == []
    admission.close()
    for waiter in waiters:
        waiter.join(10)
    assert entered == [True] * 5
    assert admission.enter(0.0)
    admission.enter_now()


@pytest.fixture
def limited(fresh: Callable[..., Any], labels: list[str]) -> Iterator[Any]:
    """A classifier with two places; all are free again after the test."""
    classifier = fresh(labels=labels, workers=1, vision_max_batch_size=2)
    classifier._admission = Admission(2)
    yield classifier
    assert_all_free(classifier._admission)


@pytest.fixture
def full(limited: Any) -> Iterator[Any]:
    """The same, with both places taken."""
    limited._admission.enter()
    limited._admission.enter()
    yield limited
    limited._admission.leave()
    limited._admission.leave()


async def test_when_all_places_are_taken_who_does_not_wait_is_told_so(full: Any, pictures: list[Any]) -> None:
    for _ in range(3):
        with pytest.raises(QueueFullError, match="2 images are in work"):
            full.classify(pictures[0], wait=False)
        with pytest.raises(QueueFullError, match="2 images are in work"):
            await full.aclassify(pictures[0], wait=False)


async def test_waiting_for_a_place_counts_towards_the_timeout(full: Any, pictures: list[Any]) -> None:
    for timeout in (0, 0.05):
        with pytest.raises(RequestTimeoutError, match="not classified within"):
            full.classify(pictures[0], timeout=timeout)
        with pytest.raises(RequestTimeoutError, match="not classified within"):
            await full.aclassify(pictures[0], timeout=timeout)


def test_who_waits_is_classified_when_a_place_is_free(limited: Any, pictures: list[Any], same: Any) -> None:
    expected = limited.classify(pictures[0])
    limited._admission.enter()
    limited._admission.enter()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(limited.classify, pictures[0])
        time.sleep(0.05)
        assert not waiting.done()
        limited._admission.leave()
        same(waiting.result(20), expected)
    limited._admission.leave()


async def test_with_a_place_who_does_not_wait_is_classified(limited: Any, pictures: list[Any], same: Any) -> None:
    same(limited.classify(pictures[0], wait=False), await limited.aclassify(pictures[0]))
    assert_all_free(limited._admission)
    same(await limited.aclassify(pictures[0], wait=False), limited.classify(pictures[0]))


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_stream_runs_within_the_limit_and_gives_the_same(
    limited: Any, pictures: list[Any], same: Any, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(limited.classify_many(pictures))
    limited._admission = Admission(limit)
    lock, working, seen, submit = threading.Lock(), [0], [], limited._engine.submit

    def left(_: object) -> None:
        with lock:
            working[0] -= 1

    def watched(pixels: Any, task: Any) -> Any:
        with lock:
            working[0] += 1
            seen.append(working[0])
        future = submit(pixels, task)
        future.add_done_callback(left)
        return future

    monkeypatch.setattr(limited._engine, "submit", watched)
    for one, other in zip(limited.classify_many(pictures * 4), expected * 4, strict=True):
        same(one, other)
    results = [result async for result in limited.aclassify_many(pictures)]
    for one, other in zip(results, expected, strict=True):
        same(one, other)
    assert len(seen) == 5 * len(pictures)
    assert max(seen) <= limit
    assert_all_free(limited._admission, limit)
    limited._admission = Admission(2)


async def test_streams_threads_and_tasks_share_the_places_and_all_are_served(limited: Any, pictures: list[Any]) -> None:
    with ThreadPoolExecutor(6) as pool:
        streams = [pool.submit(lambda: [r.ok for r in limited.classify_many(pictures * 3)]) for _ in range(2)]
        singles = [pool.submit(limited.classify, picture) for picture in pictures * 2]
        tasks = [limited.aclassify(picture) for picture in pictures * 2]
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert all(answer.ok for answer in answers)
        assert all(single.result(60).ok for single in singles)
        for stream in streams:
            assert stream.result(60) == [True] * (3 * len(pictures))


async def test_bad_images_give_their_places_back(limited: Any, pictures: list[Any]) -> None:
    for _ in range(4):
        with pytest.raises(ImageDecodeError):
            limited.classify(b"no image")
        with pytest.raises(ImageDecodeError):
            await limited.aclassify(b"no image")
    assert_all_free(limited._admission)
    for _ in range(4):
        with pytest.raises(ImageDecodeError):
            limited.classify(b"no image", wait=False)
        with pytest.raises(ImageDecodeError):
            await limited.aclassify(b"no image", wait=False)
    assert [r.ok for r in limited.classify_many([b"no", pictures[0]] * 4, errors="return")] == [False, True] * 4


def test_so_do_images_that_the_engine_fails_on(
    limited: Any, pictures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastinfer.engines.llama.forward import ForwardPass

    def score(*_: object) -> None:
        raise EngineError("decode failed")

    with monkeypatch.context() as patch:
        patch.setattr(ForwardPass, "score", score)
        for _ in range(4):
            with pytest.raises(EngineError, match="decode failed"):
                limited.classify(pictures[0])
    assert limited.classify(pictures[0]).ok


async def test_so_do_requests_that_time_out(limited: Any, pictures: list[Any]) -> None:
    for timeout in (0, 0.0001, 0.001, 0.003):
        for _ in range(4):
            for outcome in await asyncio.gather(
                limited.aclassify(pictures[0], timeout=timeout), return_exceptions=True
            ):
                assert not isinstance(outcome, BaseException) or isinstance(outcome, RequestTimeoutError)
            try:
                assert limited.classify(pictures[0], timeout=timeout).ok
            except RequestTimeoutError:
                continue


@pytest.mark.parametrize("wait", [True, False])
async def test_so_do_cancelled_tasks(limited: Any, pictures: list[Any], wait: bool) -> None:
    for moment in (0, 0.0, 0.001, 0.004, 0.01):
        tasks = [asyncio.create_task(limited.aclassify(picture, wait=wait)) for picture in pictures]
        await asyncio.sleep(moment)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert not isinstance(outcome, Exception) or isinstance(outcome, QueueFullError)
        await asyncio.to_thread(assert_all_free, limited._admission)


async def test_so_do_streams_that_nobody_reads_to_the_end(limited: Any, pictures: list[Any]) -> None:
    stream = limited.classify_many(pictures * 10)
    next(stream)
    stream.close()
    astream = limited.aclassify_many(pictures * 10)
    await anext(astream)
    await astream.aclose()
    assert limited.classify(pictures[0], timeout=20).ok


async def test_closing_ends_those_who_wait_for_a_place(
    fresh: Callable[..., Any], labels: list[str], pictures: list[Any]
) -> None:
    from fastinfer.errors import EngineDeadError

    classifier = fresh(labels=labels, workers=1)
    classifier._admission = Admission(1)
    classifier._admission.enter()
    tasks = [asyncio.create_task(classifier.aclassify(pictures[0])) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(classifier.classify, pictures[0]) for _ in range(4)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(classifier.close)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert all(isinstance(outcome, EngineDeadError) for outcome in outcomes)
        assert all(isinstance(thread.exception(20), EngineDeadError) for thread in threads)


async def test_who_does_not_wait_is_served_while_the_decoding_threads_wait_for_places(
    fresh: Callable[..., Any], labels: list[str], pictures: list[Any]
) -> None:
    classifier = fresh(labels=labels, workers=1, decode_workers=1)
    classifier._admission = Admission(1)
    classifier._admission.enter()
    tasks = [asyncio.create_task(classifier.aclassify(picture)) for picture in pictures]
    while not classifier._admission._waiting:
        await asyncio.sleep(0.001)
    classifier._admission.leave()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    # The other way round: the place is taken, and its image comes after others in the queue of the decoding threads.
    for _ in range(5):
        tasks = [asyncio.create_task(classifier.aclassify(picture)) for picture in pictures]
        tasks.append(asyncio.create_task(classifier.aclassify(pictures[0], wait=False)))
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert all(outcome.ok for outcome in outcomes[:-1])
        assert isinstance(outcomes[-1], QueueFullError) or outcomes[-1].ok
    await asyncio.to_thread(assert_all_free, classifier._admission, 1)
