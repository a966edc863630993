"""Closing: idempotent, in bounded time, memory back, and everybody who waits gets an answer."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastinfer.errors import EngineDeadError


def test_closing_twice_is_closing_once(fresh):
    classifier = fresh()
    classifier.close()
    classifier.close()
    assert "closed" in repr(classifier)


def test_closing_from_many_threads_at_once(fresh):
    classifier = fresh()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: classifier.close(), range(8)))


def test_a_context_manager_closes_whatever_happens(fresh, pictures):
    with fresh() as classifier:
        assert classifier.classify(pictures[0]).ok
    with pytest.raises(EngineDeadError):
        classifier.classify(pictures[0])
    with pytest.raises(ZeroDivisionError), fresh() as classifier:
        _ = 1 / 0
    with pytest.raises(EngineDeadError):
        classifier.classify(pictures[0])


async def test_use_after_close_is_an_error_with_advice(fresh, pictures):
    classifier = fresh(labels=["a", "b"])
    classifier.close()
    for use in (
        lambda: classifier.classify(pictures[0]),
        lambda: classifier.classify(pictures[0], labels=["c", "d"]),
        lambda: list(classifier.classify_many(pictures)),
        lambda: setattr(classifier, "labels", ["c", "d"]),
    ):
        with pytest.raises(EngineDeadError, match="closed") as error:
            use()
        assert error.value.hint
    with pytest.raises(EngineDeadError, match="closed"):
        await classifier.aclassify(pictures[0])
    with pytest.raises(EngineDeadError, match="closed"):
        async for _ in classifier.aclassify_many(pictures):
            pass


def test_what_it_was_can_still_be_read_after_close(fresh):
    classifier = fresh(labels=["a", "b"])
    classifier.close()
    assert classifier.labels == ("a", "b")
    assert classifier.preset.name == classifier.provenance.preset == "embedded"


def test_a_running_stream_ends_with_an_error_when_the_classifier_is_closed(fresh, pictures):
    classifier = fresh()
    results = classifier.classify_many(itertools.cycle(pictures))
    next(results)
    classifier.close()
    with pytest.raises(EngineDeadError):
        for _ in itertools.islice(results, 200):
            pass


def test_a_running_stream_that_returns_errors_returns_these(fresh, pictures):
    classifier = fresh()
    results = classifier.classify_many(pictures * 20, errors="return")
    assert next(results).ok
    classifier.close()
    rest = list(results)
    assert len(rest) == len(pictures) * 20 - 1
    failed = [r for r in rest if not r.ok]
    assert failed
    assert all(isinstance(r.error, EngineDeadError) for r in failed)


async def test_a_running_asynchronous_stream_ends_the_same_way(fresh, pictures):
    classifier = fresh()
    results = classifier.aclassify_many(itertools.cycle(pictures))
    await anext(results)
    await asyncio.to_thread(classifier.close)
    with pytest.raises(EngineDeadError):  # noqa: PT012  some results were ready before
        for _ in range(200):
            await anext(results)


async def test_asynchronous_requests_in_flight_are_answered_and_not_cancelled(fresh, pictures):
    classifier = fresh()
    tasks = [asyncio.create_task(classifier.aclassify(image)) for image in pictures * 20]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(classifier.close)
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    wrong = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, EngineDeadError)]
    assert not wrong
    assert any(isinstance(a, EngineDeadError) for a in answers)


def test_requests_in_flight_from_threads_each_end_in_bounded_time(fresh, pictures):
    classifier = fresh(labels=["red circle", "red square"])
    outcomes, started = [], threading.Barrier(13)

    def work(image):
        started.wait()
        for _ in range(200):
            try:
                outcomes.append(classifier.classify(image).label)
            except EngineDeadError as error:
                outcomes.append(error)
                return

    threads = [threading.Thread(target=work, args=(image,)) for image in pictures * 2]
    for thread in threads:
        thread.start()
    started.wait()
    time.sleep(0.2)
    begun = time.monotonic()
    classifier.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - begun < 10
    assert not any(thread.is_alive() for thread in threads)
    assert sum(isinstance(outcome, EngineDeadError) for outcome in outcomes) == len(threads)
    assert any(isinstance(outcome, str) for outcome in outcomes)


def test_a_forgotten_classifier_frees_its_threads_and_memory(run_python):
    code = """
import fastinfer, gc, threading, weakref
from PIL import Image
before = threading.active_count()
classifier = fastinfer.classifier()
classifier.classify(Image.new("RGB", (50, 50)))
list(classifier.classify_many([Image.new("RGB", (50, 50))] * 20))
gone = weakref.ref(classifier)
del classifier
gc.collect()
assert gone() is None
for thread in threading.enumerate():
    if thread is not threading.current_thread() and thread.name.startswith("fastinfer"):
        thread.join(10)
assert threading.active_count() == before, threading.enumerate()
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_classifier_is_collected():
    import fastinfer

    classifier = fastinfer.classifier()
    gone = weakref.ref(classifier)
    classifier.close()
    del classifier
    gc.collect()
    assert gone() is None


def test_a_classifier_in_a_reference_cycle_is_collected_while_it_works(run_python):
    # The collector may run in any thread, the engine's own included, in the middle of a batch.
    code = """
import fastinfer, gc, threading
from PIL import Image
image = Image.new("RGB", (50, 50))
for round in range(4):
    classifier = fastinfer.classifier()
    classifier.me = classifier
    results = classifier.classify_many([image] * 60)
    next(results)
    engine = classifier._engine
    future = [engine.submit(__import__("numpy").zeros((112, 112, 3), "uint8"), next(iter(classifier._tasks.values())))
              for _ in range(40)]
    future[round].add_done_callback(lambda _: gc.collect())
    del classifier, results, engine
    for one in future:
        try:
            one.result(20)
        except fastinfer.errors.EngineDeadError:
            pass
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_memory_comes_back(run_python):
    pytest.importorskip("psutil")
    code = """
import fastinfer, gc, psutil
from PIL import Image
image = Image.new("RGB", (200, 200), "red")
process, sizes = psutil.Process(), []
for round in range(12):
    with fastinfer.classifier() as classifier:
        list(classifier.classify_many([image] * 20))
    gc.collect()
    sizes.append(process.memory_info().rss)
growth = (sizes[-1] - sizes[4]) / 2**20
assert growth < 40, (growth, sizes)
"""
    done = run_python(code, timeout=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
