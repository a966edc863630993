"""Requests in, replies out: the same as with one slot and nothing else running."""

from __future__ import annotations

import dataclasses
import time
from itertools import pairwise

import numpy as np
import pytest

from chat_tools import (
    GREEDY,
    PLAIN,
    SPECIAL,
    TRAINED,
    Faults,
    Reply,
    ask,
    eventually,
    request_for,
    send,
    some_tokens,
    tokens_of,
    wait_for_a_place,
)
from fastinfer.engines.chat import Sampling
from fastinfer.errors import (
    MessageError,
    PromptTooLongError,
    QueueFullError,
    RequestCancelledError,
    RequestTimeoutError,
    SchemaError,
)

SHAPES = [(1, 3), (2, 2), (2, 4), (4, 2), (4, 6)]


@pytest.mark.parametrize("cut", [0, 128], ids=["scores", "device cut"])
@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
@pytest.mark.parametrize(("slots", "requests"), SHAPES)
def test_every_reply_is_that_of_a_single_slot(open_engine, single, slots, requests, unified, cut):
    engine = open_engine(parallel=slots, kv_unified=unified, device_cut=cut)
    wanted = [request_for(some_tokens(10 + 37 * i, seed=i), max_tokens=60 + i) for i in range(requests)]
    replies = [send(engine, request) for request in wanted]
    for reply, request in zip(replies, wanted, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_long_prompts_and_small_batches_do_not_change_replies(open_engine, single, unified):
    wanted = [request_for(some_tokens(n, seed=n), max_tokens=20) for n in (1, 2, 31, 32, 33, 300, 500)]
    for n_batch, n_ubatch in ((32, 32), (64, 16), (16, 512), (512, 512), (2, 2)):
        engine = open_engine(parallel=3, n_batch=n_batch, n_ubatch=n_ubatch, kv_unified=unified)
        for reply, request in [(send(engine, request), request) for request in wanted]:
            reply.wait()
            assert reply.state == ask(single, request).state, (n_batch, n_ubatch)


def test_the_same_seed_gives_the_same_text(open_engine, single):
    engine = open_engine()
    request = request_for(some_tokens(20), sampling=dataclasses.replace(PLAIN, seed=5), max_tokens=50)
    replies = [send(engine, request) for _ in range(6)]
    assert {reply.wait().seed for reply in replies} == {5}
    assert {reply.state for reply in replies} == {ask(single, request).state}


def test_a_drawn_seed_is_reported_and_reproduces(single):
    request = request_for(some_tokens(20), sampling=PLAIN, max_tokens=50)
    first = ask(single, request)
    again = request_for(
        request.tokens, sampling=dataclasses.replace(PLAIN, seed=first.outcome.seed), max_tokens=request.max_tokens
    )
    assert ask(single, again).state == first.state
    assert ask(single, request).text != first.text


def test_the_parts_of_a_reply_are_the_reply(single):
    parts = []
    reply = Reply(on_put=lambda r: parts.append(r.text))
    single.submit(request_for(some_tokens(25, seed=9), max_tokens=40), reply)
    reply.wait()
    assert parts[-1] == reply.text
    assert all(later.startswith(earlier) for earlier, later in pairwise(parts))


def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(single):
    request = request_for(some_tokens(20, seed=1), max_tokens=100)
    whole = ask(single, request)
    stop = whole.text[20:23]
    place = whole.text.index(stop)
    cut = ask(single, dataclasses.replace(request, stop=("does not occur", stop)))
    assert cut.text == whole.text[:place]
    assert (cut.outcome.finish_reason, cut.outcome.stop) == ("stop", stop)
    assert cut.outcome.completion_tokens < whole.outcome.completion_tokens


def test_a_stop_string_at_the_very_end_is_a_stop_even_where_a_longer_one_was_possible(single):
    request = request_for(some_tokens(20, seed=1), max_tokens=30)
    whole = ask(single, request).text.rstrip("\ufffd")
    request = dataclasses.replace(request, max_tokens=len(whole))
    whole = ask(single, request).text
    last = whole[-1]
    place = whole.index(last)
    # As many tokens as end with that character.
    for most in range(1, len(whole) + 1):
        reply = ask(single, dataclasses.replace(request, max_tokens=most, stop=(last, last + "never")))
        if reply.outcome.stop is not None:
            assert reply.text == whole[:place]
            assert reply.outcome.finish_reason == "stop"
            return
    pytest.fail("the stop string was not found")


def test_the_reply_has_as_many_tokens_as_asked_for(single):
    for most in (1, 2, 17):
        outcome = ask(single, request_for(some_tokens(30, seed=2), max_tokens=most)).outcome
        assert (outcome.completion_tokens, outcome.finish_reason) == (most, "length")


def test_the_end_of_the_context_ends_the_reply(open_engine):
    engine = open_engine(n_ctx=256, parallel=2)
    assert engine.limit == 256
    sampling = dataclasses.replace(GREEDY, ignore_end=True)
    for most in (None, 10_000):
        outcome = ask(engine, request_for(some_tokens(200), sampling=sampling, max_tokens=most)).outcome
        assert (outcome.completion_tokens, outcome.finish_reason) == (56, "length")
    outcome = ask(engine, request_for(some_tokens(255), max_tokens=None)).outcome
    assert (outcome.completion_tokens, outcome.prompt_tokens) == (1, 255)


def test_an_end_token_ends_the_reply_unless_it_is_ignored(single):
    hot = Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)
    ended = 0
    for seed in range(12):
        request = request_for(some_tokens(9, seed=seed), sampling=dataclasses.replace(hot, seed=seed), max_tokens=120)
        reply = ask(single, request)
        assert reply.outcome.completion_tokens == 120 or reply.outcome.finish_reason == "stop"
        ended += reply.outcome.finish_reason == "stop"
        assert not any(special in reply.text for special in SPECIAL)
        ignoring = dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, ignore_end=True))
        outcome = ask(single, ignoring).outcome
        assert (outcome.finish_reason, outcome.completion_tokens) == ("length", 120)
    assert ended


def test_a_prompt_that_leaves_no_room_is_refused_at_once(open_engine):
    engine = open_engine(n_ctx=256)
    reply = Reply()
    for tokens in (256, 257, 5000):
        with pytest.raises(PromptTooLongError) as caught:
            engine.submit(request_for(some_tokens(tokens)), reply)
        assert (caught.value.tokens, caught.value.limit) == (tokens, 256)
        assert caught.value.hint
    assert not reply.over.is_set()


def test_a_conversation_ends_where_the_models_training_did(open_engine):
    engine = open_engine(n_ctx=2 * TRAINED)
    assert engine.limit == TRAINED
    assert (
        [a.parameter for a in engine.adjustments] == ["n_ctx"]
        if hasattr(engine.adjustments[0], "parameter")
        else len(engine.adjustments) == 1
    )
    with pytest.raises(PromptTooLongError):
        engine.submit(request_for(some_tokens(TRAINED)), Reply())


def test_an_empty_prompt_is_refused(single):
    with pytest.raises(MessageError):
        single.submit(request_for([]), Reply())


def test_a_token_that_does_not_exist_fails_its_request_alone(open_engine, single):
    engine = open_engine()
    good = [request_for(some_tokens(20, seed=i), max_tokens=30) for i in range(3)]
    bad = request_for([5, 6, 100_000, 7])
    replies = [send(engine, good[0]), send(engine, bad), send(engine, good[1]), send(engine, good[2])]
    for reply, request in zip([replies[0], *replies[2:]], good, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
    with pytest.raises(Exception, match="refuses"):
        replies[1].wait()


def test_a_grammar_that_cannot_be_parsed_fails_its_request_alone(open_engine):
    engine = open_engine()
    bad = send(engine, request_for(some_tokens(10), grammar="root ::= ("))
    good = send(engine, request_for(some_tokens(10)))
    good.wait()
    with pytest.raises(SchemaError):
        bad.wait()


@pytest.mark.parametrize("cut", [0, 128])
def test_a_reply_follows_its_grammar(open_engine, cut):
    engine = open_engine(device_cut=cut)
    grammar = 'root ::= "{" [a-z]{3} "}"'
    replies = [
        send(engine, request_for(some_tokens(10, seed=i), sampling=dataclasses.replace(PLAIN, seed=i), grammar=grammar))
        for i in range(8)
    ]
    for reply in replies:
        assert reply.wait().finish_reason == "stop"
        assert len(reply.text) == 5
        assert reply.text[0] + reply.text[-1] == "{}"
        assert reply.text[1:-1].islower()


def test_a_grammar_holds_from_the_end_of_the_reasoning_on(open_engine):
    engine = open_engine()
    engine.show(["<think>", "</think>"])
    free = ask(engine, request_for(some_tokens(20, seed=3), max_tokens=60))
    mark = free.text[10:12]
    place = free.text.index(mark) + len(mark)
    bound = ask(
        engine,
        request_for(some_tokens(20, seed=3), max_tokens=60, grammar='root ::= "yes" | "no"', grammar_after=mark),
    )
    assert bound.text[:place] == free.text[:place]
    assert bound.text.endswith(("yes", "no"))
    assert bound.outcome.finish_reason == "stop"


def test_a_grammar_that_is_over_where_the_end_is_ignored_is_an_error_of_that_request(open_engine):
    engine = open_engine()
    sampling = dataclasses.replace(GREEDY, ignore_end=True)
    bad = send(engine, request_for(some_tokens(10), sampling=sampling, grammar='root ::= "a"'))
    good = send(engine, request_for(some_tokens(10, seed=1)))
    good.wait()
    with pytest.raises(SchemaError):
        bad.wait()
    ask(engine, request_for(some_tokens(10, seed=2)))


# The queue.


def slow(monkeypatch, seconds=0.002):
    """Every step takes this much longer; the lock is free meanwhile."""
    return Faults(monkeypatch, lambda call, batch: time.sleep(seconds))


ENDLESS = {"sampling": dataclasses.replace(GREEDY, ignore_end=True), "max_tokens": None}


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_full_queue_refuses_and_accepts_again(open_engine, monkeypatch, most):
    slow(monkeypatch)
    engine = open_engine(parallel=2, max_queue=most)
    accepted = [send(engine, request_for(some_tokens(5, seed=i), **ENDLESS)) for i in range(2 + most)]
    with pytest.raises(QueueFullError):
        send(engine, request_for(some_tokens(5)))
    accepted[0].ticket.cancel()
    accepted[0].over.wait()
    eventually(lambda: engine.metrics()["llamacpp:requests_deferred"] == max(0, most - 1))
    late = send(engine, request_for(some_tokens(5, seed=50), max_tokens=3), wait=True)
    for reply in accepted[1:]:
        reply.ticket.cancel()
    assert late.wait().completion_tokens == 3


def test_waiting_for_a_place_in_the_queue_loses_nothing(open_engine):
    engine = open_engine(parallel=2, max_queue=1)
    replies = [send(engine, request_for(some_tokens(5, seed=i), max_tokens=5), wait=True) for i in range(50)]
    assert sum(reply.wait().completion_tokens for reply in replies) == 250


def test_who_waits_for_a_place_is_told_when_the_engine_closes(open_engine, monkeypatch):
    slow(monkeypatch)
    engine = open_engine(parallel=1, max_queue=0)
    send(engine, request_for(some_tokens(5), **ENDLESS))
    thread, caught = wait_for_a_place(engine)
    engine.close()
    thread.join(30)
    assert len(caught) == 1


def test_requests_are_taken_in_order_of_arrival(open_engine):
    engine = open_engine(parallel=1)
    order = []

    class Ordered(Reply):
        def finish(self, outcome):
            order.append(self.number)
            super().finish(outcome)

    replies = []
    for number in range(30):
        reply = Ordered()
        reply.number = number
        engine.submit(request_for(some_tokens(4 + number % 7, seed=number), max_tokens=1 + number % 5), reply)
        replies.append(reply)
    for reply in replies:
        reply.wait()
    assert order == list(range(30))


# Deadlines and cancelling.


def test_a_deadline_passes_while_a_request_runs(open_engine, monkeypatch):
    slow(monkeypatch)
    engine = open_engine(parallel=2)
    late = send(engine, request_for(some_tokens(5), deadline=time.monotonic() + 0.1, **ENDLESS))
    with pytest.raises(RequestTimeoutError, match="after"):
        late.wait()
    assert late.text
    ask(engine, request_for(some_tokens(5)))


def test_a_deadline_passes_while_a_request_waits(open_engine, monkeypatch):
    slow(monkeypatch)
    engine = open_engine(parallel=1)
    running = send(engine, request_for(some_tokens(5), **ENDLESS))
    late = send(engine, request_for(some_tokens(5), deadline=time.monotonic() + 0.05))
    with pytest.raises(RequestTimeoutError, match="waited"):
        late.wait()
    assert not late.text
    assert not running.over.is_set()
    running.ticket.cancel()


def test_a_deadline_that_has_passed_already_is_no_exception(open_engine):
    engine = open_engine()
    late = send(engine, request_for(some_tokens(5), deadline=time.monotonic() - 1, **ENDLESS))
    with pytest.raises(RequestTimeoutError):
        late.wait()


def test_a_deadline_far_away_changes_nothing(single):
    request = request_for(some_tokens(8))
    assert (
        ask(single, dataclasses.replace(request, deadline=time.monotonic() + 1000)).state == ask(single, request).state
    )


def test_cancelling_while_queued_prefilling_and_decoding(open_stepped):
    stepped = open_stepped(parallel=2, n_ubatch=32, n_batch=32)
    decoding = stepped.send(request_for(some_tokens(5), **ENDLESS))
    stepped.run(until=decoding.begun.is_set)
    prefilling = stepped.send(request_for(some_tokens(1000, seed=1), **ENDLESS))
    stepped.step(3)
    queued = stepped.send(request_for(some_tokens(6, seed=2), **ENDLESS))
    stepped.step()
    states = stepped.engine.slots()
    assert [s["is_processing"] for s in states] == [True, True]
    assert 0 < states[1]["n_prompt_tokens_processed"] < 1000
    for reply in (queued, prefilling, decoding):
        reply.ticket.cancel()
        reply.ticket.cancel()
    time.sleep(0.03)  # the queue is looked through every 20 ms
    stepped.step(2)
    for reply in (queued, prefilling, decoding):
        with pytest.raises(RequestCancelledError):
            reply.wait()
    assert stepped.loop.is_idle
    assert [s["is_processing"] for s in stepped.engine.slots()] == [False, False]


def test_cancelling_after_the_end_is_nothing(single):
    reply = ask(single, request_for(some_tokens(8)))
    reply.ticket.cancel()
    assert ask(single, request_for(some_tokens(8))).state == reply.state
    assert reply.error is None


def test_cancelling_frees_the_slot_for_the_next(open_engine, monkeypatch):
    slow(monkeypatch, 0.0005)
    engine = open_engine(parallel=1)
    for seed in range(5):
        running = send(engine, request_for(some_tokens(5, seed=seed), **ENDLESS))
        after = send(engine, request_for(some_tokens(7, seed=seed), max_tokens=2))
        assert running.begun.wait(30)
        running.ticket.cancel()
        assert after.wait().completion_tokens == 2


# Fairness, in steps.


@pytest.mark.parametrize("replies", [1, 4])
@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_a_long_prompt_gets_on_beside_a_stream_of_short_ones(open_stepped, unified, replies):
    stepped = open_stepped(parallel=4, n_ctx=8192, prefill_budget=64, n_ubatch=64, n_batch=64, kv_unified=unified)
    long = stepped.send(request_for(some_tokens(1600, seed=99), max_tokens=1))
    started = stepped.steps
    number = 0
    while not long.over.is_set():
        while len(stepped.loop.queue) + len(stepped.core._inbox) < 3:
            number += 1
            stepped.send(request_for(some_tokens(60, seed=number), max_tokens=replies))
        stepped.step()
        assert stepped.steps - started < 4 * 1600 / 64 + 20
    assert number > 20


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_short_prompts_do_not_wait_for_a_long_one(open_stepped, unified):
    stepped = open_stepped(parallel=2, n_ctx=8192, n_ubatch=64, n_batch=64, kv_unified=unified)
    long = stepped.send(request_for(some_tokens(3000, seed=99), max_tokens=1))
    stepped.step(2)
    for number in range(10):
        short = stepped.send(request_for(some_tokens(40, seed=number), max_tokens=1))
        started = stepped.steps
        stepped.run(until=short.over.is_set)
        assert stepped.steps - started <= 3
    assert not long.over.is_set()


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_replies_get_a_token_in_every_step_while_a_prompt_is_evaluated(open_stepped, unified):
    stepped = open_stepped(parallel=4, n_ctx=8400, kv_unified=unified)
    running = [stepped.send(request_for(some_tokens(5, seed=i), **ENDLESS)) for i in range(3)]
    stepped.run(until=lambda: all(r.begun.is_set() for r in running))
    long = stepped.send(request_for(some_tokens(2000, seed=50), max_tokens=1))
    while not long.over.is_set():
        before = [request.predicted for request in stepped.loop.running[:3]]
        stepped.step()
        assert [request.predicted for request in stepped.loop.running[:3]] == [n + 1 for n in before]


# What is reported.


def test_the_counters_tell_what_was_done(open_stepped):
    stepped = open_stepped(parallel=2)
    replies = [stepped.send(request_for(some_tokens(20 + i, seed=i), max_tokens=5)) for i in range(5)]
    assert stepped.engine.metrics()["llamacpp:requests_deferred"] == 5
    stepped.step()
    metrics = stepped.engine.metrics()
    assert metrics["llamacpp:requests_processing"] == 2
    assert metrics["llamacpp:requests_deferred"] == 3
    stepped.run()
    metrics = stepped.engine.metrics()
    assert metrics["llamacpp:prompt_tokens_total"] + metrics["llamacpp:prompt_tokens_cached_total"] == sum(
        reply.outcome.prompt_tokens for reply in replies
    )
    assert metrics["llamacpp:tokens_predicted_total"] == 25
    assert metrics["llamacpp:n_decode_total"] == stepped.engine.profile()["steps"] == stepped.steps
    assert metrics["llamacpp:n_tokens_max"] == 24 + 5
    assert 1 <= metrics["llamacpp:n_busy_slots_per_decode"] <= 2
    assert metrics["llamacpp:requests_processing"] == metrics["llamacpp:requests_deferred"] == 0
    assert metrics["llamacpp:prompt_tokens_seconds"] > 0
    assert metrics["llamacpp:predicted_tokens_seconds"] > 0


LLAMA_SERVER = {
    "prompt_tokens_total", "prompt_tokens_cached_total", "prompt_seconds_total", "tokens_predicted_total",
    "tokens_predicted_seconds_total", "n_decode_total", "n_tokens_max", "prompt_tokens_seconds",
    "predicted_tokens_seconds", "requests_processing", "requests_deferred", "n_busy_slots_per_decode",
}  # fmt: skip


def test_metrics_have_llama_servers_names_and_can_be_read_before_anything_ran(open_engine):
    metrics = open_engine().metrics()
    assert set(metrics) == {f"llamacpp:{name}" for name in LLAMA_SERVER}
    assert set(metrics.values()) == {0}


def test_slots_have_llama_servers_fields(open_stepped):
    stepped = open_stepped(parallel=2)
    assert stepped.engine.slots() == [{"id": i, "n_ctx": stepped.engine.limit, "is_processing": False} for i in (0, 1)]
    sampling = dataclasses.replace(PLAIN, seed=7)
    stepped.send(request_for(some_tokens(20), sampling=sampling, max_tokens=50, stop=("x",)))
    stepped.step(4)
    busy, idle = stepped.engine.slots()
    assert not idle["is_processing"]
    assert busy["is_processing"]
    assert (busy["n_prompt_tokens"], busy["n_prompt_tokens_processed"], busy["n_prompt_tokens_cache"]) == (20, 20, 0)
    assert busy["next_token"] == {"has_next_token": True, "n_remain": 46, "n_decoded": 4}
    assert busy["params"]["seed"] == 7
    assert busy["params"]["temperature"] == sampling.temperature
    assert busy["params"]["n_predict"] == 50
    assert busy["params"]["stop"] == ["x"]
    assert {"id_task", "n_ctx", "id"} <= set(busy)


def test_times_add_up(single):
    outcome = ask(single, request_for(some_tokens(40, seed=5))).outcome
    assert outcome.queued_ms >= 0
    assert outcome.prompt_ms > 0
    assert outcome.predicted_ms > 0


def test_the_vocabulary_can_be_used_while_replies_run(open_engine):
    engine = open_engine()
    replies = [send(engine, request_for(some_tokens(10, seed=i), max_tokens=200)) for i in range(6)]
    for _ in range(50):
        assert len(tokens_of(engine, "What is this dog?")) > 2
    for reply in replies:
        reply.wait()


def test_special_tokens_show_only_where_asked_for(open_engine):
    engine = open_engine()
    token = SPECIAL.index("</think>")
    sampling = dataclasses.replace(GREEDY, logit_bias=((token, 1000.0),))
    assert ask(engine, request_for(some_tokens(5), sampling=sampling, max_tokens=2)).text == ""
    engine.show(["</think>", "no such token"])
    assert ask(engine, request_for(some_tokens(5), sampling=sampling, max_tokens=2)).text == "</think></think>"


def test_prompts_of_another_integer_type_are_taken(single):
    tokens = some_tokens(12, seed=6)
    assert ask(single, request_for(tokens)).state == ask(single, request_for(np.array(tokens, np.int64))).state
