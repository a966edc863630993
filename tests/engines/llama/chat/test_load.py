"""Many requests of all kinds from several threads, some of them cancelled: all accounted for, and right."""

from __future__ import annotations

import dataclasses
import random
import threading
import time

import numpy as np
import pytest

from chat_tools import GREEDY, PLAIN, ask, eventually, is_accounted_for, request_for, send, some_tokens
from fastinfer.errors import PromptTooLongError, RequestCancelledError, RequestTimeoutError

SHARED = [some_tokens(n, seed=5000 + n) for n in (40, 90, 160)]
GRAMMAR = 'root ::= "{" [a-z]{1,6} ":" [0-9]+ "}"'


def mixed(number):
    """A request of any kind; the same for the same number."""
    dice = random.Random(number)
    prompt = some_tokens(dice.randint(1, 60), seed=number)
    if dice.random() < 0.5:
        prompt = np.concatenate([dice.choice(SHARED), prompt])
    sampling = dice.choice([GREEDY, PLAIN, dataclasses.replace(PLAIN, top_k=0), dataclasses.replace(PLAIN, top_k=1)])
    return request_for(
        prompt,
        sampling=dataclasses.replace(sampling, seed=number),
        max_tokens=dice.choice([1, 3, 10, 30]),
        stop=dice.choice([(), ("e", "is"), ("never found",)]),
        grammar=GRAMMAR if dice.random() < 0.1 else None,
        logprobs=1 if dice.random() < 0.1 else None,
    )


def run(engine, count, threads=4):
    """Submit ``count`` requests; the replies, in any order, with what they were to."""
    replies, lock = [], threading.Lock()
    work = iter(range(count))
    refused = []

    def submit():
        dice = random.Random(threading.get_ident())
        while True:
            with lock:
                number = next(work, None)
            if number is None:
                return
            request = mixed(number)
            kind = dice.random()
            if kind < 0.05:
                request = dataclasses.replace(request, deadline=time.monotonic() + dice.random() * 0.05)
            try:
                reply = send(engine, request, wait=True)
            except RequestTimeoutError:
                with lock:
                    refused.append(request)
                continue
            reply.request = dataclasses.replace(request, deadline=None)
            with lock:
                replies.append(reply)
            if kind > 0.8:
                if dice.random() < 0.5:
                    time.sleep(dice.random() * 0.01)
                reply.ticket.cancel()
            if kind > 0.98:
                with pytest.raises(PromptTooLongError):
                    send(engine, request_for(some_tokens(engine.limit)))

    workers = [threading.Thread(target=submit) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return replies, refused


def check(engine, single, count):
    """Every request has ended in its way, every slot and cell is free, and what was finished is right."""
    replies, refused = run(engine, count)
    assert len(replies) + len(refused) == count
    ends = {"finished": [], "cancelled": [], "late": []}
    for reply in replies:
        try:
            reply.wait()
            ends["finished"].append(reply)
        except RequestCancelledError:
            ends["cancelled"].append(reply)
        except RequestTimeoutError:
            ends["late"].append(reply)
    assert sum(map(len, ends.values())) == len(replies)
    assert len(ends["finished"]) > count / 2
    loop = engine._core._loop
    eventually(lambda: loop.is_idle)
    counters = loop.counters
    assert (counters.finished, counters.cancelled, counters.failed) == tuple(map(len, ends.values()))
    assert not any(slot["is_processing"] for slot in engine.slots())
    assert engine.metrics()["llamacpp:requests_deferred"] == 0
    assert is_accounted_for(loop)
    for reply in ends["finished"]:
        assert reply.state == ask(single, reply.request).state
        if reply.request.logprobs is not None:
            assert len(reply.logprobs) == reply.outcome.completion_tokens


KINDS = {
    "scores": {},
    "partitioned": {"kv_unified": False},
    "device cut": {"device_cut": 128, "calibrate": True},
    "partitioned, device cut": {"kv_unified": False, "device_cut": 128, "calibrate": True},
    "little room": {"n_ctx": 512, "max_queue": 3},
    "small steps": {"n_batch": 32, "n_ubatch": 16, "prefill_budget": 24, "max_queue": 20},
}


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_all_are_accounted_for_and_right(open_engine, single, changes, count):
    check(open_engine(parallel=4, **changes), single, count)


def test_a_thousand_are_accounted_for_and_right(open_engine, single):
    check(open_engine(parallel=4, **KINDS["partitioned, device cut"]), single, 1000)
