"""A chat model whose engine has a process of its own: the same replies, and what has not begun is not lost with it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import chat_tools as tools
import fastinfer
from beside import eventually
from fastinfer.engines.isolated.chat import IsolatedChatEngine
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.supervisor import Patience
from fastinfer.errors import (
    EngineDeadError,
    PromptTooLongError,
    QueueFullError,
    RequestCancelledError,
    RequestTimeoutError,
    SchemaError,
)

EXACT = {"n_ctx": 4096, "n_batch": 512, "n_ubatch": 512, "type_k": "f32", "type_v": "f32", "flash_attn": False,
         "n_threads": 1}  # fmt: skip
LONG = {"max_tokens": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return tools.write_chat_model(tmp_path_factory.mktemp("chat") / "tiny.gguf")


@pytest.fixture(scope="module")
def inside(babbler):
    with fastinfer.llm(model=babbler, **EXACT) as llm:
        yield llm


@pytest.fixture(scope="module")
def llm(babbler):
    """One for all tests that leave it open: after a death it is the same object."""
    with fastinfer.llm(model=babbler, isolate=True, **EXACT) as llm:
        yield llm


@pytest.fixture
def open_deadly(model_file):
    made = []

    def make(**changes):
        config = tools.config_for(model_file, **changes)
        made.append(
            IsolatedChatEngine(
                Opener("chat", "deadly_engines", "chatting", (config,)),
                slots=config.parallel,
                max_queue=config.max_queue,
                n_ctx=config.n_ctx,
                patience=Patience(load=60.0, close=5.0, back_off=(0.0, 0.0, 0.0)),
            )
        )
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def same(one, other):
    for name in ("text", "reasoning", "finish_reason", "tool_calls", "parsed", "seed"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.usage.completion_tokens == other.usage.completion_tokens


def test_replies_are_those_of_an_engine_in_this_process_in_every_way_to_ask(inside, llm):
    assert llm.provenance.kernel_path == inside.provenance.kernel_path + ", in a process of its own"
    options = {"seed": 7, "max_tokens": 20, "logprobs": 2, "logit_bias": {5: float("-inf"), 9: 0.5}}
    reply = inside.chat("hello", **options)
    same(llm.chat("hello", **options), reply)
    assert [p.token for p in llm.chat("hello", **options).logprobs] == [p.token for p in reply.logprobs]
    assert "".join(map(str, llm.stream("hello", **options))) == reply.text
    same(asyncio.run(llm.achat("hello", **options)), reply)
    asked = [f"number {number}" for number in range(12)]
    many = {"seed": 3, "max_tokens": 8}
    for one, other in zip(llm.chat_many(asked, **many), inside.chat_many(asked, **many), strict=True):
        same(one, other)
    assert llm.count_tokens("hello there") == inside.count_tokens("hello there")
    assert llm.chat("x", grammar='root ::= "yes" | "no"').text in ("yes", "no")
    with pytest.raises(SchemaError, match="cannot parse the grammar"):
        llm.chat("x", grammar="root = wrong")
    with pytest.raises(PromptTooLongError):
        llm.chat("word " * 5000)
    with pytest.raises(RequestTimeoutError):
        llm.chat("hello", timeout=0.02, **LONG)


def test_slots_and_metrics_are_those_of_the_process_and_go_on_over_its_death(llm):
    counted = llm.metrics()["llamacpp:tokens_predicted_total"]
    stream = llm.stream("hello", **LONG)
    next(stream)
    assert sum(slot["is_processing"] for slot in llm.slots()) == 1
    assert llm.metrics()["llamacpp:requests_processing"] == 1
    stream.close()
    llm.chat("hello", max_tokens=5, ignore_eos=True)
    before = llm.metrics()["llamacpp:tokens_predicted_total"]
    assert before >= counted + 6
    os.kill(llm._engine.pid, signal.SIGKILL)
    llm.chat("hello", max_tokens=5, ignore_eos=True)
    assert llm.metrics()["llamacpp:tokens_predicted_total"] >= before + 5


def test_a_reply_that_had_begun_fails_with_a_cause_and_those_that_had_not_are_given(inside, llm):
    asked = [f"number {number}" for number in range(10)]
    options = {"seed": 3, "max_tokens": 6}
    expected = list(inside.chat_many(asked, **options))
    begun = [llm.stream(f"long {number}", seed=number, **LONG) for number in range(4)]
    for stream in begun:
        next(stream)
    first = llm._engine.pid
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(llm.chat, question, **options) for question in asked]
        eventually(lambda: llm.metrics()["llamacpp:requests_deferred"] == 10)
        os.kill(first, signal.SIGKILL)
        for stream in begun:
            with pytest.raises(EngineDeadError, match="SIGKILL") as failed:
                list(stream)
            assert failed.value.hint
            assert failed.value.restarted, "so that a job goes on"
            assert failed.value.__cause__ is not None
        for reply, other in zip(waiting, expected, strict=True):
            same(reply.result(60), other)
    assert llm._engine.pid != first


@pytest.mark.parametrize("asks", ["chat", "achat", "chat_many"])
def test_a_reply_that_is_waited_for_whole_is_begun_again(inside, llm, asks):
    long = {"seed": 5, "max_tokens": 1500, "ignore_eos": True, "logprobs": 1}
    ways = {
        "chat": lambda engine: [engine.chat("hello", **long)],
        "achat": lambda engine: [asyncio.run(engine.achat("hello", **long))],
        "chat_many": lambda engine: list(engine.chat_many(["hello", "number 7"], **long)),
    }

    def predicted():
        return llm.metrics()["llamacpp:tokens_predicted_total"]

    expected, before = ways[asks](inside), predicted()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ways[asks], llm)
        eventually(lambda: predicted() > before + 20)
        os.kill(llm._engine.pid, signal.SIGKILL)
        for reply, other in zip(waiting.result(60), expected, strict=True):
            same(reply, other)
            assert [p.token for p in reply.logprobs] == [p.token for p in other.logprobs]


def test_prompts_that_kill_the_engine_or_hang_it_fail_alone(open_deadly):
    engine = open_deadly()
    engine.limit_steps(3.0)
    # Of one token, so that none has begun and not ended where the engine dies: it would fail then, as it could not be
    # begun again.
    one_token = {n: tools.request_for(tools.some_tokens(n), max_tokens=1) for n in (5, 13, 6, 17, 7)}
    replies = {length: tools.send(engine, request) for length, request in one_token.items()}
    for length, reply in replies.items():
        if length in (13, 17):
            with pytest.raises(EngineDeadError, match=r"each of the . times that it computed this") as failed:
                reply.wait()
            assert "harmful" in f"{failed.value} {failed.value.__cause__}"
        else:
            assert reply.wait().prompt_tokens == length


def test_the_queue_has_the_length_that_was_asked_for(open_deadly):
    engine = open_deadly(parallel=2, max_queue=3)
    request = tools.request_for(tools.some_tokens(10), max_tokens=2000)
    waiting = [tools.send(engine, request) for _ in range(5)]
    with pytest.raises(QueueFullError, match="3 requests are waiting"):
        tools.send(engine, request)
    with pytest.raises(RequestTimeoutError, match="queue was full"):
        tools.send(engine, dataclasses.replace(request, deadline=time.monotonic() + 0.05), wait=True)
    for reply in waiting:
        reply.ticket.cancel()
    reply = tools.send(engine, dataclasses.replace(request, max_tokens=2), wait=True)
    assert reply.wait().completion_tokens <= 2
    assert all(isinstance(cancelled.error, RequestCancelledError) for cancelled in waiting)


def test_an_abandoned_stream_gives_its_slot_back(llm):
    for number in range(12):
        stream = llm.stream("hello", seed=number, **LONG)
        next(stream)
        del stream
    assert llm.chat("hello", max_tokens=2, timeout=20).text is not None


def test_closing_answers_who_waits(babbler, nothing_left):
    llm = fastinfer.llm(model=babbler, isolate=True, **EXACT)
    stream = llm.stream("hello", **LONG)
    next(stream)
    process = llm._engine.pid
    llm.close()
    with pytest.raises(EngineDeadError, match="closed"):
        list(stream)
    with pytest.raises(EngineDeadError):
        llm.chat("hello")
    assert llm.metrics()["llamacpp:tokens_predicted_total"] > 0, "what it counted at last"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
