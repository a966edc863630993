"""llama_decode fails in each of its ways: what can be saved is saved, and whoever waits is told."""

from __future__ import annotations

import dataclasses
import random
import threading

import pytest

from chat_tools import (
    GREEDY,
    Faults,
    ask,
    is_accounted_for,
    request_for,
    send,
    some_tokens,
    wait_for_a_place,
)
from fastinfer.errors import EngineDeadError, EngineError, EngineOutOfMemoryError, RequestCancelledError

MARKER = 399
LONG = dataclasses.replace(GREEDY, ignore_end=True)


@pytest.fixture(params=[True, False], ids=["unified", "partitioned"])
def unified(request):
    return request.param


def mixed_requests(count=6):
    return [request_for(some_tokens(15 + 40 * (s % 3), seed=s), max_tokens=20 + 5 * s) for s in range(count)]


def expected(single, requests):
    return [ask(single, request).state for request in requests]


def states(replies):
    for reply in replies:
        reply.wait()
    return [reply.state for reply in replies]


def holds(batch, token):
    return any(batch.token[i] == token for i in range(batch.n_tokens))


@pytest.mark.parametrize("fault", [1, 2, ("after", 2)], ids=["no room", "aborted before", "aborted at the end"])
@pytest.mark.parametrize("calls", [[1], [2], [5, 6, 7], [3, 10, 11, 20], [*range(4, 60, 3)]], ids=str)
def test_no_room_and_an_abort_now_and_then_change_no_reply(open_stepped, single, monkeypatch, unified, fault, calls):
    requests = mixed_requests()
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=4, n_batch=64, n_ubatch=32, kv_unified=unified)
    faults = Faults(monkeypatch, lambda call, batch: fault if call in calls else None)
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert faults.faults
    assert states(replies) == wanted
    assert stepped.loop.counters.failed == 0
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("seed", range(6))
def test_faults_at_random_change_no_reply(open_stepped, single, monkeypatch, unified, seed):
    requests = mixed_requests(8)
    wanted = expected(single, requests)
    dice = random.Random(seed)
    stepped = open_stepped(parallel=3, n_ctx=768, n_batch=64, n_ubatch=32, kv_unified=unified)

    def choose(call, batch):
        code = dice.choice([None, None, None, None, 1, 2, ("after", 2)])
        # One request alone has room.
        return None if code == 1 and len(stepped.loop.running) == 1 else code

    Faults(monkeypatch, choose)
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert states(replies) == wanted
    assert is_accounted_for(stepped.loop)


def test_where_room_is_short_kept_conversations_go_first(open_stepped, monkeypatch, unified):
    stepped = open_stepped(kv_unified=unified)
    stepped.send(request_for(some_tokens(100), max_tokens=2))
    stepped.run()
    assert stepped.memory.kept
    Faults(monkeypatch, lambda call, batch: 1 if stepped.memory.kept else None)
    reply = stepped.send(request_for(some_tokens(30, seed=1), max_tokens=5))
    stepped.run()
    assert reply.wait().completion_tokens == 5
    assert reply.outcome.preempted == 0


def test_where_room_is_short_batches_get_smaller(open_stepped, single, monkeypatch, unified):
    requests = mixed_requests(3)
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=3, n_ctx=768, kv_unified=unified)
    Faults(monkeypatch, lambda call, batch: 1 if batch.n_tokens > 5 else None)
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert states(replies) == wanted


def test_where_room_is_short_the_youngest_gives_up_its_own(open_stepped, single, monkeypatch, unified):
    requests = [request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=30) for s in range(4)]
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=4, kv_unified=unified)
    Faults(monkeypatch, lambda call, batch: 1 if sum(r is not None for r in stepped.loop.slots) > 2 else None)
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert states(replies) == wanted
    assert [reply.outcome.preempted > 0 for reply in replies][:2] == [False, False]
    assert stepped.loop.counters.preempted > 0


def test_the_oldest_gets_on_though_the_youngest_finds_no_room(open_stepped, single, monkeypatch):
    """Two replies, and no room for the second one's next token: it gives up its room, not the first."""
    requests = [request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=30) for s in range(2)]
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=2)
    replies = [stepped.send(request) for request in requests]
    stepped.step(4)
    Faults(monkeypatch, lambda call, batch: 1 if holds_sequence(batch, 1) and None not in stepped.loop.slots else None)
    stepped.run()
    assert states(replies) == wanted
    assert replies[0].outcome.preempted == 0
    assert replies[1].outcome.preempted > 0


def holds_sequence(batch, sequence):
    return any(batch.seq_id[i][0] == sequence for i in range(batch.n_tokens))


def test_what_can_never_fit_fails_alone(open_stepped, single, monkeypatch, unified):
    requests = mixed_requests(4)
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=3, kv_unified=unified)
    Faults(monkeypatch, lambda call, batch: 1 if holds(batch, MARKER) else None)
    replies = [stepped.send(request) for request in requests[:2]]
    never = stepped.send(request_for([5, MARKER, *range(40, 60)]))
    replies += [stepped.send(request) for request in requests[2:]]
    stepped.run()
    with pytest.raises(EngineError, match="room"):
        never.wait()
    assert states(replies) == wanted
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("place", range(5))
def test_a_batch_that_is_refused_costs_only_the_one_that_spoils_it(open_stepped, single, monkeypatch, unified, place):
    requests = mixed_requests(4)
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=5, n_ctx=2560, kv_unified=unified)
    Faults(monkeypatch, lambda call, batch: -1 if holds(batch, MARKER) else None)
    everyone = [*requests[:place], request_for([7, 8, MARKER, 9], max_tokens=5), *requests[place:]]
    replies = [stepped.send(request) for request in everyone]
    stepped.run()
    spoiled = replies.pop(place)
    with pytest.raises(EngineError) as caught:
        spoiled.wait()
    assert not isinstance(caught.value, EngineDeadError)
    assert states(replies) == wanted
    assert stepped.loop.counters.failed == 1
    assert is_accounted_for(stepped.loop)


def test_a_batch_that_is_refused_while_replies_run_costs_only_the_newcomer(open_stepped, single, monkeypatch, unified):
    requests = mixed_requests(3)
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=4, kv_unified=unified)
    replies = [stepped.send(request) for request in requests]
    stepped.step(6)
    Faults(monkeypatch, lambda call, batch: -1 if holds(batch, MARKER) else None)
    spoiled = stepped.send(request_for([7, 8, MARKER, 9]))
    stepped.run()
    assert spoiled.error is not None
    assert states(replies) == wanted


@pytest.mark.parametrize("after", [False, True], ids=["instead", "after"])
@pytest.mark.parametrize("code", [-2, -3, -7])
def test_a_failed_computation_costs_what_runs_and_nothing_that_waits(
    open_stepped, single, monkeypatch, unified, code, after
):
    requests = mixed_requests(7)
    wanted = expected(single, requests)
    stepped = open_stepped(parallel=3, n_ctx=768, kv_unified=unified)
    fault = ("after", code) if after else code
    Faults(monkeypatch, lambda call, batch: fault if call == 5 else None)
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply in replies[:3]:
        with pytest.raises(EngineError) as caught:
            reply.wait()
        assert type(caught.value) is (EngineOutOfMemoryError if code == -2 else EngineError)
        assert ("no memory" if code == -2 else str(code)) in str(caught.value)
    assert states(replies[3:]) == wanted[3:]
    assert stepped.loop.counters.failed == 3
    assert is_accounted_for(stepped.loop)


def test_after_a_failed_computation_the_same_prompts_succeed(open_engine, single, monkeypatch, unified):
    engine = open_engine(kv_unified=unified)
    requests = mixed_requests(4)
    wanted = expected(single, requests)
    with monkeypatch.context() as patch:
        Faults(patch, lambda call, batch: -3)
        for reply in [send(engine, request) for request in requests]:
            with pytest.raises(EngineError):
                reply.wait()
    assert states([send(engine, request) for request in requests]) == wanted


def test_a_failure_in_one_half_of_a_divided_batch_leaves_the_loop_in_order(open_stepped, monkeypatch, unified):
    """The batch is refused, its first half fails for good: nothing of the second half is left to evaluate."""
    stepped = open_stepped(parallel=4, kv_unified=unified)
    codes = iter([-1, -3])
    Faults(monkeypatch, lambda call, batch: next(codes, None))
    replies = [stepped.send(request_for(some_tokens(10, seed=s), max_tokens=4)) for s in range(6)]
    stepped.run()
    for reply in replies[:4]:
        with pytest.raises(EngineError):
            reply.wait()
    states(replies[4:])
    assert stepped.loop.counters.failed == 4
    assert is_accounted_for(stepped.loop)


def test_an_exception_out_of_llama_cpp_ends_the_engine_and_everyone_is_told_why(open_engine, monkeypatch, caplog):
    engine = open_engine(parallel=2)
    cause = OSError("exception: access violation")
    sent = threading.Event()

    def choose(call, batch):
        if call <= 10:
            return None
        sent.wait(30)
        return cause

    Faults(monkeypatch, choose)
    replies = [send(engine, request_for(some_tokens(10, seed=s), sampling=LONG, max_tokens=500)) for s in range(6)]
    sent.set()
    for reply in replies:
        with pytest.raises(EngineDeadError) as caught:
            reply.wait()
        assert caught.value.__cause__ is cause
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(EngineDeadError) as caught:
            engine.submit(request_for(some_tokens(4)), replies[0])
        assert caught.value.__cause__ is cause
        with pytest.raises(EngineDeadError):
            engine.submit(request_for(some_tokens(4)), replies[0], wait=True)
    with pytest.raises(EngineDeadError), engine.vocabulary():
        pass
    assert not any(slot["is_processing"] for slot in engine.slots())
    assert engine.metrics()["llamacpp:requests_deferred"] == 0
    assert engine.profile()["steps"] >= 10
    engine.close()
    engine.close()
    assert any("died" in record.message for record in caplog.records)


def test_who_waits_for_a_place_in_the_queue_is_told_that_the_engine_died(open_engine, monkeypatch):
    engine = open_engine(parallel=1, max_queue=0)
    go = threading.Event()

    def choose(call, batch):
        go.wait(30)
        return ValueError("broken")

    Faults(monkeypatch, choose)
    send(engine, request_for(some_tokens(4)))
    thread, caught = wait_for_a_place(engine)
    go.set()
    thread.join(30)
    assert len(caught) == 1


def test_cancelling_while_nothing_has_room_ends_the_request(open_stepped, monkeypatch):
    stepped = open_stepped(parallel=2)
    replies = [stepped.send(request_for(some_tokens(10, seed=s), sampling=LONG, max_tokens=100)) for s in range(2)]
    stepped.step(3)
    for reply in replies:
        reply.ticket.cancel()
    Faults(monkeypatch, lambda call, batch: 1)
    stepped.run(most=100)
    for reply in replies:
        with pytest.raises(RequestCancelledError):
            reply.wait()
