"""Beginnings that prompts share are evaluated once; what ended is kept for what follows."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from chat_tools import (
    GREEDY,
    Faults,
    Stepped,
    ask,
    config_for,
    is_accounted_for,
    request_for,
    some_tokens,
    tokens_of,
    write_chat_model,
)
from fastinfer.errors import EngineError, RequestCancelledError, RequestTimeoutError

SYSTEM = some_tokens(200, seed=1000)


@pytest.fixture(params=[True, False], ids=["unified", "partitioned"])
def unified(request):
    return request.param


def behind(prefix, count, seed):
    """The prefix with ``count`` tokens of one's own, the first of which nobody else has."""
    return np.concatenate([prefix, [300 + seed], some_tokens(count - 1, seed=seed)]).astype(np.int32)


def evaluated(stepped):
    return stepped.loop.counters.prompt_tokens


def agrees_with(single, replies, requests):
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
    return True


def test_a_system_prompt_that_eight_share_is_evaluated_once(open_stepped, single, unified):
    stepped = open_stepped(parallel=8, n_ctx=8192, kv_unified=unified)
    requests = [request_for(behind(SYSTEM, 10, seed), max_tokens=12) for seed in range(8)]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert evaluated(stepped) == 200 + 8 * 10
    assert sorted(reply.outcome.cached_tokens for reply in replies) == [0] + 7 * [200]
    metrics = stepped.engine.metrics()
    assert metrics["llamacpp:prompt_tokens_cached_total"] == 7 * 200
    assert agrees_with(single, replies, requests)
    assert is_accounted_for(stepped.loop)


def test_what_a_running_request_has_evaluated_is_copied(open_stepped, single, unified):
    stepped = open_stepped(parallel=2, kv_unified=unified)
    first = request_for(behind(SYSTEM, 10, 0), sampling=dataclasses.replace(GREEDY, ignore_end=True), max_tokens=80)
    second = request_for(behind(SYSTEM, 10, 1), max_tokens=30)
    leading = stepped.send(first)
    stepped.run(until=leading.begun.is_set)
    following = stepped.send(second)
    stepped.run()
    assert following.outcome.cached_tokens == 200
    assert agrees_with(single, [leading, following], [first, second])


def small_steps(open_stepped, unified):
    """Three requests behind a system prompt; the first has evaluated a part of it, the others wait for it."""
    stepped = open_stepped(parallel=4, n_ctx=4096, n_batch=32, n_ubatch=32, kv_unified=unified)
    requests = [request_for(behind(SYSTEM, 10, seed), max_tokens=12) for seed in range(3)]
    replies = [stepped.send(requests[0])]
    stepped.step(2)
    replies += [stepped.send(request) for request in requests[1:]]
    stepped.step(2)
    assert [r.leader is not None for r in stepped.loop.running] == [False, True, True]
    return stepped, requests, replies


def cancel(stepped, reply):
    reply.ticket.cancel()


def run_out_of_time(stepped, reply):
    request = stepped.loop.running[0]
    request.generation = dataclasses.replace(request.generation, deadline=time.monotonic() - 1)


def take_its_room(stepped, reply):
    stepped.loop._preempt(stepped.loop.running[0])


@pytest.mark.parametrize("leave", [cancel, run_out_of_time, take_its_room])
def test_those_that_wait_go_on_when_the_one_they_wait_for_leaves(open_stepped, single, unified, leave):
    stepped, requests, replies = small_steps(open_stepped, unified)
    leave(stepped, replies[0])
    stepped.run()
    assert agrees_with(single, replies[1:], requests[1:])
    if leave is take_its_room:
        assert agrees_with(single, replies[:1], requests[:1])
    else:
        with pytest.raises((RequestCancelledError, RequestTimeoutError)):
            replies[0].wait()
        # One of them finished the beginning, for both.
        assert evaluated(stepped) <= 200 + 3 * 10 + 32
    assert is_accounted_for(stepped.loop)


def test_those_that_wait_go_on_when_all_before_them_leave(open_stepped, single, unified):
    stepped, requests, replies = small_steps(open_stepped, unified)
    for reply in replies[:2]:
        reply.ticket.cancel()
        stepped.step()
    stepped.run()
    assert agrees_with(single, replies[2:], requests[2:])
    assert is_accounted_for(stepped.loop)


def test_one_that_waits_can_be_cancelled(open_stepped, single, unified):
    stepped, requests, replies = small_steps(open_stepped, unified)
    replies[1].ticket.cancel()
    stepped.run()
    assert agrees_with(single, [replies[0], replies[2]], [requests[0], requests[2]])
    assert is_accounted_for(stepped.loop)


def test_those_that_wait_go_on_when_the_one_they_wait_for_fails(open_stepped, single, unified, monkeypatch):
    stepped, requests, replies = small_steps(open_stepped, unified)
    leader = stepped.loop.running[0]
    sequence = leader.sequence
    faults = Faults(
        monkeypatch,
        lambda call, batch: -1 if leader.slot >= 0 and sequence in sequences_of(batch) else None,
    )
    stepped.run()
    assert faults.faults
    with pytest.raises(EngineError):
        replies[0].wait()
    assert agrees_with(single, replies[1:], requests[1:])
    assert is_accounted_for(stepped.loop)


def sequences_of(batch):
    return {batch.seq_id[i][0] for i in range(batch.n_tokens)}


def test_those_that_wait_get_all_of_it_from_a_reply_of_one_token(open_stepped, single, unified):
    stepped = open_stepped(parallel=4, n_ctx=4096, n_batch=32, n_ubatch=32, kv_unified=unified)
    requests = [request_for(SYSTEM, max_tokens=1), *(request_for(behind(SYSTEM, 10, s), max_tokens=9) for s in (1, 2))]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert evaluated(stepped) == 200 + 2 * 10
    assert agrees_with(single, replies, requests)


def test_equal_prompts_evaluate_their_last_token_each(open_stepped, single, unified):
    stepped = open_stepped(parallel=4, n_ctx=4096, kv_unified=unified)
    request = request_for(SYSTEM, max_tokens=20)
    replies = [stepped.send(request) for _ in range(4)]
    stepped.run()
    assert evaluated(stepped) == 200 + 3
    assert agrees_with(single, replies, [request] * 4)


# Conversations that are kept.


def next_turn(reply, more):
    """The conversation so far, the reply's tokens as the model wrote them, with what comes next."""
    return request_for(np.concatenate([reply.tokens, some_tokens(20, seed=more)]), max_tokens=10)


def finished_tokens(stepped, request):
    """Run a request, and take note of its tokens before it leaves."""
    reply = stepped.send(request)
    stepped.step()
    running = stepped.loop.running[0]
    stepped.run()
    reply.wait()
    reply.tokens = running.tokens[: running.length].copy()
    return reply


def test_the_next_turn_goes_on_from_the_whole_conversation(open_stepped, single, unified):
    stepped = open_stepped(parallel=2, kv_unified=unified)
    request = request_for(some_tokens(60, seed=1), max_tokens=25)
    known = 0
    for turn in range(5):
        reply = finished_tokens(stepped, request)
        assert reply.state == ask(single, request).state
        assert reply.outcome.cached_tokens == known
        # All but the last token of the reply, which nobody has evaluated.
        known = len(reply.tokens) - 1
        request = next_turn(reply, turn + 7)
    assert is_accounted_for(stepped.loop)


def test_conversations_take_turns_without_losing_what_is_kept(open_stepped, unified):
    stepped = open_stepped(parallel=4, n_ctx=4096, kv_unified=unified)
    requests = [request_for(some_tokens(60, seed=seed), max_tokens=10) for seed in range(4)]
    for turn in range(4):
        following = []
        for request in requests:
            reply = finished_tokens(stepped, request)
            assert reply.outcome.cached_tokens == (0 if not turn else len(request.tokens) - 21)
            following.append(next_turn(reply, turn))
        requests = following


def test_the_conversation_used_longest_ago_makes_room(open_stepped):
    stepped = open_stepped(parallel=1, n_ctx=512)
    prompts = {name: some_tokens(100, seed=seed) for seed, name in enumerate("ABC")}
    for name in "ABCA":
        stepped.send(request_for(prompts[name], max_tokens=1))
        stepped.run()
    stepped.send(request_for(some_tokens(250, seed=50), max_tokens=1))
    stepped.run()

    def cached(name):
        reply = stepped.send(request_for(prompts[name], max_tokens=1))
        stepped.run()
        return reply.outcome.cached_tokens

    assert cached("A") == 99
    assert cached("C") == 99
    assert cached("B") == 0
    assert is_accounted_for(stepped.loop)


def test_a_kept_conversation_gives_up_what_is_not_shared_where_that_is_the_room_needed(open_stepped, single, unified):
    stepped = open_stepped(parallel=1, n_ctx=512, kv_unified=unified)
    start = some_tokens(40, seed=1)
    stepped.send(request_for(behind(start, 400, 0), max_tokens=4))
    stepped.run()
    request = request_for(behind(start, 400, 1), max_tokens=4)
    reply = stepped.send(request)
    stepped.run(most=200)
    assert reply.outcome.cached_tokens == 40
    assert agrees_with(single, [reply], [request])
    assert is_accounted_for(stepped.loop)


def test_many_short_conversations_leave_no_cell_behind(open_stepped, unified):
    stepped = open_stepped(parallel=3, n_ctx=1024, kv_unified=unified)
    for seed in range(120):
        stepped.send(request_for(some_tokens(5 + seed % 60, seed=seed % 40), max_tokens=1 + seed % 9))
        stepped.step()
        if seed % 10 == 0:
            assert is_accounted_for(stepped.loop)
    stepped.run()
    assert is_accounted_for(stepped.loop)


# Stretches that are moved.


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory):
    """With one layer a key depends on nothing but its token and position, so a moved stretch is exact."""
    return write_chat_model(tmp_path_factory.mktemp("chat") / "one-layer.gguf", layers=1)


@pytest.fixture
def moving(one_layer, unified):
    stepped = Stepped(config_for(one_layer, cache_reuse=32, kv_unified=unified, parallel=2, n_ctx=2048))
    yield stepped
    stepped.close()


@pytest.fixture
def recomputing(one_layer):
    stepped = Stepped(config_for(one_layer, parallel=1))
    yield stepped
    stepped.close()


HEAD, MIDDLE, TAIL, END = (some_tokens(n, seed=n) for n in (50, 80, 120, 15))


def test_a_text_without_its_middle_reuses_what_came_after(moving, recomputing):
    moving.send(request_for(np.concatenate([HEAD, MIDDLE, TAIL]), max_tokens=3))
    moving.run()
    request = request_for(np.concatenate([HEAD, TAIL, END]), max_tokens=40)
    reply, expected = moving.send(request), recomputing.send(request)
    moving.run()
    recomputing.run()
    assert reply.outcome.cached_tokens == len(HEAD) + len(TAIL)
    assert reply.text == expected.text
    assert is_accounted_for(moving.loop)


def test_several_stretches_are_moved_and_short_ones_are_not(moving, recomputing):
    parts = [some_tokens(n, seed=n) for n in (60, 40, 61, 41, 62, 10, 63)]
    moving.send(request_for(np.concatenate(parts), max_tokens=3))
    moving.run()
    request = request_for(np.concatenate([parts[0], parts[2], parts[4], [299], parts[6]]), max_tokens=40)
    reply, expected = moving.send(request), recomputing.send(request)
    moving.run()
    recomputing.run()
    assert reply.outcome.cached_tokens == 60 + 61 + 62
    assert reply.text == expected.text
    assert is_accounted_for(moving.loop)


def test_without_being_asked_for_nothing_is_moved(recomputing):
    recomputing.send(request_for(np.concatenate([HEAD, MIDDLE, TAIL]), max_tokens=3))
    recomputing.run()
    reply = recomputing.send(request_for(np.concatenate([HEAD, TAIL, END]), max_tokens=3))
    recomputing.run()
    assert reply.outcome.cached_tokens == len(HEAD)


def test_what_another_conversation_shares_is_not_moved(moving, recomputing):
    whole = np.concatenate([HEAD, MIDDLE, TAIL])
    moving.send(request_for(whole, max_tokens=1))
    moving.run()
    sharing = request_for(behind(whole, 5, 1), max_tokens=60)
    without = request_for(np.concatenate([HEAD, TAIL, END]), max_tokens=20)
    replies = [moving.send(sharing)]
    moving.step(3)
    replies.append(moving.send(without))
    moving.run()
    expected = [recomputing.send(sharing), recomputing.send(without)]
    recomputing.run()
    assert [reply.text for reply in replies] == [reply.text for reply in expected]
    assert is_accounted_for(moving.loop)


def test_with_more_layers_a_moved_text_gives_probabilities_close_to_those_of_a_new_one(model_file, unified):
    """Not equal: what a stretch had seen before it stays in it."""
    stepped = Stepped(config_for(model_file, cache_reuse=32, parallel=1, kv_unified=unified))
    try:
        stepped.send(request_for(np.concatenate([HEAD, MIDDLE, TAIL]), max_tokens=3))
        stepped.run()
        request = request_for(np.concatenate([HEAD, TAIL, END]), max_tokens=1, logprobs=1000)
        moved = stepped.send(request)
        stepped.run()
        assert moved.outcome.cached_tokens > len(HEAD)
        stepped.memory.drop_kept()
        new = stepped.send(request)
        stepped.run()
        assert new.outcome.cached_tokens == 0
        left, right = (
            [logprob for _, logprob in sorted(reply.logprobs[0].top, key=lambda t: t[0])] for reply in (moved, new)
        )
        assert np.corrcoef(left, right)[0, 1] > 0.5
    finally:
        stepped.close()


def test_text_that_begins_alike_is_found_as_tokens(open_engine):
    engine = open_engine()
    text = "<|im_start|>User What is this? A red bird is this house. " * 3
    request = request_for(tokens_of(engine, text), max_tokens=5)
    ask(engine, request)
    assert ask(engine, request).outcome.cached_tokens == len(request.tokens) - 1
