"""The shape of steps: graphs are kept, and rows that nobody reads change nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from chat_tools import GREEDY, PLAIN, Faults, ask, is_accounted_for, request_for, send, some_tokens

LONG = dataclasses.replace(GREEDY, ignore_end=True)


@pytest.fixture(params=[True, False], ids=["unified", "partitioned"])
def unified(request):
    return request.param


@pytest.mark.parametrize("cut", [0, 128])
@pytest.mark.parametrize("replies", [1, 3, 4])
def test_steady_decoding_keeps_its_graph(open_stepped, unified, replies, cut):
    stepped = open_stepped(parallel=4, kv_unified=unified, device_cut=cut)
    for seed in range(replies):
        stepped.send(request_for(some_tokens(10, seed=seed), sampling=LONG, max_tokens=250))
    stepped.step(20)
    before = stepped.context.graphs_reused
    stepped.step(150)
    # A few are made anew, where the part of the cache that is looked at grows.
    assert stepped.context.graphs_reused - before >= 140


def test_slots_left_free_between_others_do_not_cost_the_graph(open_stepped, unified):
    stepped = open_stepped(parallel=4, kv_unified=unified)
    replies = [stepped.send(request_for(some_tokens(10, seed=s), sampling=LONG, max_tokens=400)) for s in range(4)]
    stepped.step(10)
    replies[1].ticket.cancel()
    stepped.step(10)
    before = stepped.context.graphs_reused
    stepped.step(100)
    assert stepped.context.graphs_reused - before >= 92


def test_slots_taken_in_any_order_do_not_cost_the_graph(open_stepped, unified):
    stepped = open_stepped(parallel=4, kv_unified=unified)
    for seed, length in enumerate([40, 10, 30, 20]):
        stepped.send(request_for(some_tokens(10, seed=seed), sampling=LONG, max_tokens=length))
    for seed in range(4):
        stepped.send(request_for(some_tokens(10, seed=10 + seed), sampling=LONG, max_tokens=400))
    stepped.step(50)
    assert [r.number for r in stepped.loop.slots] != [4, 5, 6, 7]
    before = stepped.context.graphs_reused
    stepped.step(100)
    assert stepped.context.graphs_reused - before >= 92


def test_one_reply_alone_is_one_row_in_any_slot(open_stepped, monkeypatch, unified):
    stepped = open_stepped(parallel=4, kv_unified=unified)
    last = [stepped.send(request_for(some_tokens(10, seed=s), sampling=LONG, max_tokens=60)) for s in range(4)][-1]
    stepped.step(5)
    for request in list(stepped.loop.slots)[:3]:
        request.cancelled = True
    stepped.step(2)
    sizes = []
    Faults(monkeypatch, lambda call, batch: sizes.append(batch.n_tokens))
    stepped.run()
    assert last.wait().completion_tokens == 60
    assert len(sizes) > 40
    assert set(sizes) == {1}


def test_a_request_takes_a_slot_beside_those_that_run(open_stepped):
    stepped = open_stepped(parallel=8, n_ctx=2048, kv_unified=False)
    for seed in range(8):
        stepped.send(request_for(some_tokens(10, seed=seed), sampling=LONG, max_tokens=30 if seed == 5 else 8))
    stepped.step(12)
    assert [i for i, r in enumerate(stepped.loop.slots) if r] == [5]
    for seed in range(2):
        stepped.send(request_for(some_tokens(10, seed=20 + seed), sampling=LONG, max_tokens=20))
    stepped.step(2)
    taken = [i for i, r in enumerate(stepped.loop.slots) if r]
    assert max(taken) - min(taken) == 2


@pytest.mark.parametrize("cut", [0, 128])
def test_replies_are_the_same_where_they_are_told_while_the_next_step_runs(open_stepped, single, unified, cut):
    stepped = open_stepped(parallel=3, kv_unified=unified, device_cut=cut)
    stepped.loop._publishes_late = True
    requests = [
        request_for(some_tokens(5 + 20 * s, seed=s), sampling=dataclasses.replace(PLAIN, seed=s), max_tokens=5 + 7 * s)
        for s in range(7)
    ]
    replies = [stepped.send(request) for request in requests]
    replies[3].ticket.cancel()
    stepped.run()
    for i, (reply, request) in enumerate(zip(replies, requests, strict=True)):
        reply.over.wait(0)
        assert reply.over.is_set()
        assert not reply.after_end
        if i != 3:
            assert reply.state == ask(single, request).state
    assert replies[3].error is not None
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("delay", [0, 24])
def test_prompts_that_wait_for_each_other_change_no_reply(open_stepped, single, unified, delay):
    stepped = open_stepped(parallel=4, kv_unified=unified, prefill_delay=delay, n_batch=200, n_ubatch=64)
    requests = [
        request_for(some_tokens(30 + 25 * s, seed=s), sampling=dataclasses.replace(PLAIN, seed=s), max_tokens=9 + 9 * s)
        for s in range(9)
    ]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
    assert is_accounted_for(stepped.loop)


def test_prompts_that_fill_a_step_leave_room_for_every_row_beside_them(open_stepped, single, unified):
    stepped = open_stepped(
        parallel=6, n_ctx=6 * 512, kv_unified=unified, prefill_delay=24, n_batch=128, n_ubatch=64, calibrate=True
    )
    stepped.loop._padding.learn([9.0] * 6 + [1.0])
    requests = [
        request_for(some_tokens(200 + s, seed=s), sampling=LONG, max_tokens=12 + 5 * (s % 4)) for s in range(14)
    ]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("cut", [0, 128])
def test_padding_changes_no_reply(open_stepped, single, monkeypatch, unified, cut):
    stepped = open_stepped(parallel=4, kv_unified=unified, device_cut=cut, calibrate=True)
    # As if any number of rows took longer than five.
    stepped.loop._padding.learn([5.0, 5.0, 5.0, 5.0, 1.0])
    seen = Faults(monkeypatch, lambda call, batch: sizes.append(batch.n_tokens))
    sizes = []
    requests = [
        request_for(some_tokens(12 + s, seed=s), sampling=dataclasses.replace(PLAIN, seed=s), max_tokens=40)
        for s in range(6)
    ]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert seen.calls > 50
    assert sizes.count(5) > 0.8 * len(sizes)
    monkeypatch.undo()
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
    assert is_accounted_for(stepped.loop)


def test_padding_leaves_the_last_cells_to_replies(open_stepped, single):
    stepped = open_stepped(parallel=3, n_ctx=256, calibrate=True)
    stepped.loop._padding.learn([9.0] * 6 + [1.0])
    requests = [request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=None) for s in range(4)]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    assert stepped.loop.counters.failed == 0
    for reply, request in zip(replies, requests, strict=True):
        outcome = reply.wait()
        assert outcome.prompt_tokens + outcome.completion_tokens == stepped.engine.limit
        assert reply.state == ask(single, dataclasses.replace(request, max_tokens=outcome.completion_tokens)).state
    assert is_accounted_for(stepped.loop)


def test_measuring_at_the_start_leaves_the_cache_empty(open_stepped, unified):
    stepped = open_stepped(calibrate=True, kv_unified=unified)
    assert stepped.memory.kept == 0
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("n_batch", [1, 2, 8])
def test_batches_smaller_than_the_number_of_slots_are_made_larger(open_stepped, single, unified, slots, n_batch):
    stepped = open_stepped(
        parallel=slots, n_batch=n_batch, n_ubatch=n_batch, n_ctx=256 * slots, kv_unified=unified, calibrate=True
    )
    requests = [request_for(some_tokens(20, seed=s), sampling=LONG, max_tokens=5) for s in range(slots + 2)]
    replies = [stepped.send(request) for request in requests]
    stepped.run()
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state


def test_no_step_is_larger_than_asked_for(open_stepped, monkeypatch):
    stepped = open_stepped(n_batch=128, n_ubatch=64)
    sizes = []
    Faults(monkeypatch, lambda call, batch: sizes.append(batch.n_tokens))
    for seed in range(6):
        stepped.send(request_for(some_tokens(300, seed=seed), max_tokens=5))
    stepped.run()
    assert max(sizes) <= 64


def test_where_steps_go_is_told(open_engine):
    engine = open_engine()
    for reply in [send(engine, request_for(some_tokens(20, seed=s), max_tokens=30)) for s in range(4)]:
        reply.wait()
    profile = engine.profile()
    inside = profile["decode_seconds"] + profile["wait_seconds"] + profile["sample_seconds"]
    assert inside > 0
    assert profile["steps"] >= 30
    assert profile["graphs_reused"] > 0
    assert np.isfinite(list(profile.values())).all()
