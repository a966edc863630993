"""Cases of llama.cpp's own server: slots and requests, seeds, streams and batches, cancelling, a full queue."""

from __future__ import annotations

import asyncio

import pytest

from fastinfer.errors import QueueFullError
from fault_matrix import Fault, rows
from ways import Replied, all_chats, each_chat

KIND = "server cases"
SLOTS = tuple(
    Fault(KIND, f"{slots} slots, {requests} requests", (slots, requests))
    for slots, requests in [(1, 3), (2, 2), (2, 4), (4, 2), (4, 6)]
)
BATCHES = tuple(Fault(KIND, f"n_batch {size}, as with 256", size) for size in (16, 33, 64))
OTHERS = (Fault(KIND, "same seed, same text, also where it is drawn"), Fault(KIND, "stream equals whole reply"))
QUEUE = (Fault(KIND, "the queue is full, and takes requests again", 2),)


@pytest.mark.parametrize(**rows(SLOTS))
async def test_every_request_gets_the_reply_that_it_gets_alone(fault, open_llm, llm, asked):
    slots, requests = fault.inject
    prompts = [f"hello {number}" for number in range(requests)]
    alone = [Replied.of(llm.chat(prompt, **asked)) for prompt in prompts]
    async for way, replies in all_chats(open_llm(parallel=slots), prompts, **asked):
        assert replies == alone, way


@pytest.mark.parametrize(**rows(BATCHES))
def test_the_size_of_batches_does_not_change_the_result(fault, open_llm, llm, asked):
    prompt = "what is this, and why is it so? " * 3
    few = {**asked, "logprobs": 3}
    one = llm.chat(prompt, **few)
    other = open_llm(n_batch=fault.inject, n_ubatch=fault.inject).chat(prompt, **few)
    assert other.text == one.text
    for left, right in zip(one.logprobs, other.logprobs, strict=True):
        assert left.token == right.token
        assert left.logprob == pytest.approx(right.logprob, abs=1e-3)


@pytest.mark.parametrize(**rows(OTHERS))
async def test_every_way_says_the_same_with_the_same_seed(fault, llm):
    drawn = {"seed": 7, "temperature": 0.9, "max_tokens": 12, "ignore_eos": True}
    said = [reply for _ in range(2) async for way, reply in each_chat(llm, "hello", **drawn)]
    assert len(set(said)) == 1
    assert Replied.of(llm.chat("hello", **{**drawn, "seed": 8})) != said[0]


@pytest.mark.parametrize(**rows(QUEUE))
async def test_a_full_queue_refuses_and_takes_requests_again(fault, open_llm, asked):
    small = open_llm(parallel=1, max_queue=fault.inject)
    before = Replied.of(small.chat("hello", **asked))
    long = {"max_tokens": 0, "ignore_eos": True}
    for _ in range(2):
        streams = [small.stream("hello", **long) for _ in range(1)]
        next(streams[0])
        streams += [small.stream("hello", **long) for _ in range(fault.inject)]
        for refused in (lambda: small.chat("hello"), lambda: small.stream("hello")):
            with pytest.raises(QueueFullError) as caught:
                refused()
            assert "max_queue" in caught.value.hint
        with pytest.raises(QueueFullError):
            await small.achat("hello")
        for stream in streams:
            stream.close()
        while any(slot["is_processing"] for slot in small.slots()) or small.metrics()["llamacpp:requests_deferred"]:
            await asyncio.sleep(0.005)
        assert Replied.of(small.chat("hello", **asked)) == before
