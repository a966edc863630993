"""Event loops: cancelled tasks free their slots, and any number of loops may share a model."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time

import pytest

from fastinfer.errors import EngineDeadError, MessageError


async def settle(llm):
    """Wait until all slots are free, without holding up the loop."""
    gc.collect()
    begun = time.monotonic()
    while llm.metrics()["llamacpp:requests_processing"] or llm.metrics()["llamacpp:requests_deferred"]:
        assert time.monotonic() - begun < 5
        await asyncio.sleep(0.005)


async def test_a_cancelled_task_frees_its_slot(llm, long):
    tasks = [asyncio.create_task(llm.achat(f"hello {i}", **long)) for i in range(8)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
    await settle(llm)


async def test_a_task_that_is_cancelled_before_it_begins_asks_nothing(llm):
    before = llm.metrics()["llamacpp:prompt_tokens_total"]
    task = asyncio.create_task(llm.achat("hello"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.metrics()["llamacpp:prompt_tokens_total"] == before


async def test_a_cancelled_stream_frees_its_slot(llm, long):
    async def read():
        async for _ in llm.astream("hello", **long):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle(llm)


async def test_a_cancelled_stream_has_the_reply_so_far(llm, long):
    stream = llm.astream("hello", **long)

    async def read():
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.reply.finish_reason == "cancelled"
    assert stream.reply.text


@pytest.mark.parametrize("how", ["aclose", "leave the block", "break", "forget"])
async def test_an_abandoned_stream_frees_its_slot(llm, long, how):
    stream = llm.astream("hello", **long)
    assert await anext(stream)
    if how == "aclose":
        await stream.aclose()
        await stream.aclose()
    elif how == "leave the block":
        async with stream:
            await anext(stream)
    elif how == "break":
        async for _ in stream:
            break
        del stream
    else:
        del stream
    await settle(llm)


async def test_the_reply_of_a_stream(llm, long, same):
    stream = llm.astream("hello", seed=1)
    with pytest.raises(RuntimeError, match="has not ended"):
        _ = stream.reply
    text = "".join([piece async for piece in stream])
    assert stream.reply.text == text
    same(stream.reply, llm.chat("hello", seed=1))
    assert [piece async for piece in stream] == []
    async with llm.astream("hello", **long) as stream:
        await anext(stream)
    assert stream.reply.finish_reason == "cancelled"


async def test_a_slow_reader_loses_nothing(llm):
    options = {"seed": 1, "ignore_eos": True, "max_tokens": 40}
    pieces = []
    async for piece in llm.astream("hello", **options):
        pieces.append(piece)
        await asyncio.sleep(0.002)
    assert "".join(pieces) == llm.chat("hello", **options).text


async def test_the_loop_goes_on_while_a_reply_is_awaited(llm, long):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    await llm.achat("hello", ignore_eos=True, max_tokens=800)
    ticking.cancel()
    assert ticks > 5


async def test_errors_of_the_conversation_come_when_awaited_or_called(llm):
    coroutine = llm.achat([{"role": "wizard", "content": "hello"}])
    with pytest.raises(MessageError):
        await coroutine
    with pytest.raises(MessageError):
        llm.astream([{"role": "wizard", "content": "hello"}])


def test_an_asynchronous_stream_needs_a_running_loop(llm, idle):
    with pytest.raises(RuntimeError, match="no running event loop"):
        llm.astream("hello")
    idle(llm)


async def test_the_timeout_of_a_request_does_not_wear_out_the_timeout_around_it(llm, long):
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout came with Python 3.11")
    with pytest.raises(TimeoutError):  # noqa: PT012  the first error is caught inside
        async with asyncio.timeout(0.3):
            with pytest.raises(TimeoutError):
                await llm.achat("hello", timeout=0.02, **long)
            assert asyncio.current_task().cancelling() == 0
            await asyncio.sleep(20)
    await settle(llm)


async def test_wait_for_around_a_request(llm, long):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(llm.achat("hello", **long), 0.05)
    await settle(llm)


async def ask(llm):
    """A few replies of each asynchronous kind."""
    options = {"seed": 5, "max_tokens": 12}
    texts = [reply.text for reply in await asyncio.gather(*[llm.achat(f"hello {i}", **options) for i in range(6)])]
    for i in range(3):
        pieces = [piece async for piece in llm.astream(f"hello {i}", **options)]
        texts.append("".join(pieces))
    return texts + [reply.text async for reply in llm.achat_many([f"hello {i}" for i in range(6)], **options)]


def test_one_loop_after_another(llm):
    texts = [asyncio.run(ask(llm)) for _ in range(6)]
    assert texts == texts[:1] * 6


def test_loops_in_several_threads_at_once(llm):
    expected = asyncio.run(ask(llm))
    texts = []
    threads = [threading.Thread(target=lambda: texts.append(asyncio.run(ask(llm)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == [expected] * 6


def test_a_loop_that_is_closed_in_the_middle_harms_nobody(llm, long, idle, caplog):
    loop = asyncio.new_event_loop()
    stream = None

    async def begin():
        nonlocal stream
        stream = llm.astream("hello", **long)
        await anext(stream)

    loop.run_until_complete(begin())
    loop.close()
    assert llm.chat("hello", max_tokens=3).text is not None
    del stream
    idle(llm)
    assert caplog.records == []


def test_a_loop_that_is_closed_while_a_reply_is_awaited_harms_nobody(llm, idle, caplog):
    loop = asyncio.new_event_loop()
    coroutine = llm.achat("hello", ignore_eos=True, max_tokens=300)

    async def begin():
        task = asyncio.ensure_future(coroutine)
        await asyncio.sleep(0.01)
        return task

    task = loop.run_until_complete(begin())
    task._log_destroy_pending = False
    loop.close()
    assert llm.chat("hello", max_tokens=3).text is not None
    idle(llm)
    coroutine.close()
    assert caplog.records == []


async def test_a_stream_from_an_engine_that_is_closed_ends_with_an_error(fresh, long):
    llm = fresh(n_ctx=1024)
    stream = llm.astream("hello", **long)
    await anext(stream)
    await llm.aclose()
    with pytest.raises(EngineDeadError):
        async for _ in stream:
            pass
    assert [piece async for piece in stream] == []
    with pytest.raises(EngineDeadError):
        _ = stream.reply


async def test_a_stream_keeps_a_forgotten_model_at_work(babbler):
    import fastinfer

    stream = fastinfer.llm(model=babbler, n_ctx=512, n_batch=512, n_ubatch=512).astream("hello", seed=1, max_tokens=9)
    gc.collect()
    _ = [piece async for piece in stream]
    assert stream.reply.seed == 1
