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


def engine_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastinfer-chat")]


def test_closing_twice_is_closing_once(fresh):
    llm = fresh(n_ctx=256)
    llm.close()
    llm.close()
    assert "closed" in repr(llm)


def test_closing_from_many_threads_at_once(fresh):
    llm = fresh(n_ctx=256)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: llm.close(), range(8)))


async def test_context_managers_close_whatever_happens(fresh):
    with fresh(n_ctx=256) as llm:
        assert llm.chat("hello", max_tokens=2).error is None
    with pytest.raises(EngineDeadError):
        llm.chat("hello")
    with pytest.raises(ZeroDivisionError), fresh(n_ctx=256) as llm:
        _ = 1 / 0
    with pytest.raises(EngineDeadError):
        llm.chat("hello")
    async with fresh(n_ctx=256) as llm:
        assert (await llm.achat("hello", max_tokens=2)).error is None
    with pytest.raises(EngineDeadError):
        await llm.achat("hello")
    await llm.aclose()


async def test_use_after_close_is_an_error_with_advice(fresh, collect):
    llm = fresh(n_ctx=256)
    llm.close()
    for use in (
        lambda: llm.chat("hello"),
        lambda: llm.stream("hello"),
        lambda: llm.astream("hello"),
        lambda: list(llm.chat_many(["hello"])),
        lambda: llm.chat("hello", grammar='root ::= "a"'),
        lambda: llm.count_tokens("hello"),
    ):
        with pytest.raises(EngineDeadError, match="closed") as error:
            use()
        assert error.value.hint
    with pytest.raises(EngineDeadError, match="closed"):
        await llm.achat("hello")
    with pytest.raises(EngineDeadError, match="closed"):
        await collect(llm.achat_many(["hello"]))
    (reply,) = llm.chat_many(["hello"], errors="return")
    assert isinstance(reply.error, EngineDeadError)


def test_what_it_was_can_still_be_read_after_close(fresh):
    llm = fresh(n_ctx=256)
    llm.chat("hello", max_tokens=2)
    llm.close()
    assert llm.preset.name == llm.provenance.preset == "embedded"
    assert [slot["is_processing"] for slot in llm.slots()] == [False] * 4
    assert llm.metrics()["llamacpp:tokens_predicted_total"] > 0
    assert llm.engine_profile()["steps"] > 0


def test_chats_in_threads_each_end_in_bounded_time(fresh, long):
    llm = fresh()
    outcomes = []

    def work(number):
        try:
            while True:
                outcomes.append(llm.chat(f"hello {number}", max_tokens=20))
        except EngineDeadError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    begun = time.monotonic()
    llm.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - begun < 5
    assert not any(thread.is_alive() for thread in threads)
    assert sum(isinstance(outcome, EngineDeadError) for outcome in outcomes) == 12
    assert len(outcomes) > 12


async def test_tasks_and_streams_are_answered_and_not_cancelled(fresh, long):
    llm = fresh()
    tasks = [asyncio.create_task(llm.achat(f"hello {i}", **long)) for i in range(12)]
    streams = [llm.astream("hello", **long) for _ in range(4)]

    async def read(stream):
        async for _ in stream:
            pass

    tasks += [asyncio.create_task(read(stream)) for stream in streams]
    await asyncio.sleep(0.05)
    await llm.aclose()
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(isinstance(answer, EngineDeadError) for answer in answers)


def test_a_running_chat_many_ends_with_an_error(fresh):
    llm = fresh()
    replies = llm.chat_many(itertools.repeat("hello"), max_tokens=50, ignore_eos=True)
    next(replies)
    llm.close()
    with pytest.raises(EngineDeadError):
        for _ in itertools.islice(replies, 100):
            pass


def test_a_running_chat_many_that_returns_errors_returns_these(fresh):
    llm = fresh()
    replies = llm.chat_many(["hello"] * 40, max_tokens=50, ignore_eos=True, errors="return")
    assert next(replies).error is None
    llm.close()
    rest = list(replies)
    assert len(rest) == 39
    failed = [reply for reply in rest if reply.error is not None]
    assert failed
    assert all(isinstance(reply.error, EngineDeadError) for reply in failed)


def test_one_who_waits_for_room_in_the_queue_is_answered(fresh, long):
    llm = fresh(parallel=1, max_queue=1)
    outcomes = []

    def work():
        try:
            list(llm.chat_many(["hello"] * 10, max_tokens=500, ignore_eos=True))
        except EngineDeadError as error:
            outcomes.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    llm.close()
    thread.join(10)
    assert len(outcomes) == 1


def test_a_forgotten_model_frees_its_thread(fresh, babbler):
    import fastinfer

    before = len(engine_threads())
    llm = fastinfer.llm(model=babbler, n_ctx=256, n_batch=256, n_ubatch=256)
    llm.chat("hello", max_tokens=2)
    assert len(engine_threads()) == before + 1
    gone = weakref.ref(llm)
    del llm
    gc.collect()
    assert gone() is None
    assert len(engine_threads()) == before


def test_a_forgotten_model_in_a_reference_cycle_is_collected(babbler):
    import fastinfer

    before = len(engine_threads())
    llm = fastinfer.llm(model=babbler, n_ctx=256, n_batch=256, n_ubatch=256)
    llm.me = llm
    llm.stream("hello", max_tokens=0, ignore_eos=True)
    del llm
    gc.collect()
    assert len(engine_threads()) == before


def test_two_models_at_once_do_not_disturb_each_other(fresh, llm, same):
    other = fresh(n_ctx=1024, parallel=2)
    expected = llm.chat("hello", seed=1)
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda model: [model.chat("hello", seed=1).text for _ in range(5)], [llm, other]))
    assert texts == [[expected.text] * 5] * 2
    other.close()
    same(llm.chat("hello", seed=1), expected)


@pytest.mark.slow
def test_memory_comes_back(babbler, run_python):
    pytest.importorskip("psutil")
    code = """
import fastinfer, gc, psutil, sys
process, sizes = psutil.Process(), []
for round in range(20):
    with fastinfer.llm(model=sys.argv[1]) as llm:
        list(llm.chat_many([f"hello {i}" for i in range(20)], max_tokens=20))
    gc.collect()
    sizes.append(process.memory_info().rss)
growth = (sizes[-1] - sizes[5]) / 2**20
assert growth < 20, (growth, sizes)
"""
    done = run_python(code, str(babbler), timeout=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
