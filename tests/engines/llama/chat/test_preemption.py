"""Where replies outgrow the cache the youngest gives up its room, and goes on later with nothing lost."""

from __future__ import annotations

import dataclasses

import pytest

from chat_tools import GREEDY, PLAIN, ask, is_accounted_for, request_for, send, some_tokens

LONG = dataclasses.replace(GREEDY, ignore_end=True)
DRAWN = dataclasses.replace(PLAIN, ignore_end=True)


@pytest.mark.parametrize("cut", [0, 128])
@pytest.mark.parametrize("sampling", [LONG, DRAWN], ids=["greedy", "drawn"])
def test_all_replies_are_those_of_a_cache_with_room(open_stepped, single, sampling, cut):
    stepped = open_stepped(n_ctx=256, parallel=4, device_cut=cut)
    requests = [
        request_for(some_tokens(20, seed=s), sampling=dataclasses.replace(sampling, seed=s), max_tokens=120)
        for s in range(6)
    ]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply, request in zip(replies, requests, strict=True):
        assert reply.wait().completion_tokens == 120
        assert reply.state == ask(single, request).state
    assert replies[0].outcome.preempted == 0
    assert sum(reply.outcome.preempted for reply in replies) == stepped.loop.counters.preempted > 0
    assert is_accounted_for(stepped.loop)


def test_the_oldest_is_never_preempted(open_stepped):
    stepped = open_stepped(n_ctx=256, parallel=4)
    for seed in range(12):
        stepped.send(request_for(some_tokens(10 + 5 * seed, seed=seed), sampling=LONG, max_tokens=100))
    while not stepped.loop.is_idle or stepped.core._inbox:
        oldest = stepped.loop.running[0] if stepped.loop.running else None
        preempted = oldest.preempted if oldest else 0
        stepped.step()
        assert oldest is None or oldest.preempted == preempted
    assert stepped.loop.counters.preempted > 0
    assert stepped.loop.counters.finished == 12


def test_one_that_was_preempted_comes_before_those_that_arrived_later(open_stepped):
    stepped = open_stepped(n_ctx=256, parallel=3)
    for seed in range(8):
        stepped.send(request_for(some_tokens(20, seed=seed), sampling=LONG, max_tokens=110))
    while not stepped.loop.is_idle or stepped.core._inbox:
        stepped.step()
        numbers = [request.number for request in stepped.loop.queue]
        assert numbers == sorted(numbers)
        running = [request.number for request in stepped.loop.running]
        assert not numbers or not running or max(running) < numbers[0]


def test_nothing_that_was_delivered_is_delivered_again(open_engine, single):
    engine = open_engine(n_ctx=256, parallel=4)
    requests = [request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=150, logprobs=1) for s in range(4)]
    replies = [send(engine, request) for request in requests]
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert len(reply.logprobs) == 150
        assert reply.text == ask(single, request).text


def test_replies_within_a_grammar_go_on_within_it(open_stepped, single):
    stepped = open_stepped(n_ctx=256, parallel=4)
    grammar = 'root ::= "[" ([a-z] "," [0-9] ";"){40} "]"'
    requests = [
        request_for(
            some_tokens(20, seed=s), sampling=dataclasses.replace(PLAIN, seed=s), max_tokens=None, grammar=grammar
        )
        for s in range(4)
    ]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert stepped.loop.counters.preempted > 0
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
        assert reply.text.endswith(";]")


def test_each_may_need_the_whole_cache(open_stepped, single):
    stepped = open_stepped(n_ctx=256, parallel=4)
    requests = [request_for(some_tokens(100 + s, seed=s), sampling=LONG, max_tokens=None) for s in range(6)]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply, request in zip(replies, requests, strict=True):
        outcome = reply.wait()
        assert outcome.prompt_tokens + outcome.completion_tokens == 256
        assert reply.state == ask(single, dataclasses.replace(request, max_tokens=outcome.completion_tokens)).state
    assert is_accounted_for(stepped.loop)


def test_prompts_as_long_as_the_cache_wait_for_each_other(open_stepped):
    stepped = open_stepped(n_ctx=256, parallel=4)
    replies = [stepped.send(request_for(some_tokens(255, seed=s), max_tokens=None)) for s in range(5)]
    stepped.run()
    assert [reply.wait().completion_tokens for reply in replies] == [1] * 5


def test_with_cells_of_their_own_nobody_is_preempted(open_stepped, single):
    stepped = open_stepped(n_ctx=1024, parallel=4, kv_unified=False)
    assert stepped.engine.limit <= 256
    requests = [request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=None) for s in range(6)]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply, request in zip(replies, requests, strict=True):
        outcome = reply.wait()
        assert outcome.prompt_tokens + outcome.completion_tokens == stepped.engine.limit
        assert outcome.preempted == 0
        assert reply.state == ask(single, dataclasses.replace(request, max_tokens=outcome.completion_tokens)).state
    assert is_accounted_for(stepped.loop)


def test_a_preempted_request_can_be_cancelled(open_stepped):
    stepped = open_stepped(n_ctx=256, parallel=2)
    replies = [stepped.send(request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=200)) for s in range(2)]
    stepped.run(until=lambda: stepped.loop.counters.preempted)
    replies[1].ticket.cancel()
    stepped.run()
    assert replies[0].outcome.completion_tokens == 200
    assert replies[1].error is not None
    assert is_accounted_for(stepped.loop)
