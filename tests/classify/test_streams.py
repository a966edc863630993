"""Long inputs: taken lazily, in bounded memory, and left alone as soon as nobody wants the results."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time

import pytest


class Counted:
    """An endless input that counts what was taken from it."""

    def __init__(self, pictures):
        self.taken = 0
        self.closed = False
        self._pictures = itertools.cycle(pictures)

    def __iter__(self):
        try:
            while True:
                self.taken += 1
                yield next(self._pictures)
        finally:
            self.closed = True


@pytest.fixture
def endless(pictures):
    return Counted(pictures)


BOUND = 100  # a few batches of 8 for two workers, and what is being decoded


def test_nothing_is_taken_before_the_first_result_is_asked_for(shared, endless):
    shared.classify_many(endless)
    assert endless.taken == 0


def test_the_input_is_taken_a_bounded_number_ahead(shared, endless):
    results = shared.classify_many(endless)
    for consumed in range(1, 80):
        next(results)
        assert endless.taken <= consumed + BOUND
    results.close()


def test_a_slow_consumer_holds_the_input_back(shared, endless):
    results = shared.classify_many(endless)
    next(results)
    before = endless.taken
    time.sleep(0.3)
    assert endless.taken == before <= 1 + BOUND
    results.close()


def test_a_short_input_is_not_waited_for_to_fill_a_batch(shared, pictures):
    def slow():
        yield pictures[0]
        yield pictures[1]

    assert len(list(shared.classify_many(slow()))) == 2


@pytest.mark.parametrize("how", ["close", "break", "forget"])
def test_an_abandoned_stream_stops_taking_and_the_classifier_goes_on(shared, endless, pictures, how):
    expected = shared.classify(pictures[0]).label
    results = shared.classify_many(endless)
    for _ in results:
        break
    if how == "close":
        results.close()
    if how == "forget":
        del results
        gc.collect()
    taken = endless.taken
    assert shared.classify(pictures[0], timeout=20).label == expected
    assert endless.taken == taken


def test_many_abandoned_streams_leave_nothing_in_the_queue(shared, endless, pictures):
    for _ in range(8):
        next(shared.classify_many(endless))
    begun = time.monotonic()
    shared.classify(pictures[0], timeout=20)
    assert time.monotonic() - begun < 5


async def test_the_asynchronous_input_is_taken_a_bounded_number_ahead_too(shared, endless):
    async def source():
        for image in endless:
            await asyncio.sleep(0)
            yield image

    results = shared.aclassify_many(source())
    assert endless.taken == 0
    for consumed in range(1, 60):
        await anext(results)
        assert endless.taken <= consumed + BOUND
    await results.aclose()
    taken = endless.taken
    await asyncio.sleep(0.1)
    assert endless.taken == taken


async def test_the_event_loop_runs_while_images_are_classified(shared, pictures):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.002)

    ticking = asyncio.create_task(tick())
    async for _ in shared.aclassify_many(pictures * 10):
        pass
    ticking.cancel()
    assert ticks >= 5


def test_two_streams_at_once_keep_their_own_order(shared, pictures):
    one, other = shared.classify_many(pictures * 3), shared.classify_many(pictures[::-1] * 3)
    pairs = list(zip(one, other, strict=True))
    expected = [shared.classify(image).label for image in pictures]
    assert [a.label for a, _ in pairs] == expected * 3
    assert [b.label for _, b in pairs] == expected[::-1] * 3


def test_a_stream_inside_a_stream(shared, pictures):
    outer = shared.classify_many(pictures[:3])
    labels = [(r.label, [i.label for i in shared.classify_many(pictures[:2])]) for r in outer]
    assert len(labels) == 3
    assert len({tuple(inner) for _, inner in labels}) == 1


@pytest.mark.slow
def test_ten_thousand_images_run_in_the_memory_of_a_few_dozen(shared, pictures):
    psutil = pytest.importorskip("psutil")
    images = (image.copy().resize((400, 400)) for image in itertools.islice(itertools.cycle(pictures), 10_000))
    process, peak, start, count = psutil.Process(), 0, 0, 0
    for count, _ in enumerate(shared.classify_many(images), 1):
        if count == 200:
            start = process.memory_info().rss
        if count > 200 and count % 100 == 0:
            peak = max(peak, process.memory_info().rss)
    assert count == 10_000
    assert peak - start < 100 * 2**20
