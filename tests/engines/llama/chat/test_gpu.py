"""The engine on a GPU: what is different there changes no reply. Steps of other sizes round differently there."""

from __future__ import annotations

import codecs
import dataclasses
import random

import pytest

import plain_mtmd as plain
import tiny_models as tiny
from beside import eventually
from chat_tools import (
    GREEDY,
    LlamaChatEngine,
    ask,
    config_for,
    request_for,
    send,
    some_tokens,
)
from fastinfer.engines.chat import PlacedImage
from fastinfer.errors import RequestCancelledError

pytestmark = pytest.mark.gpu

GPU = {"n_gpu_layers": -1, "device": "CUDA0", "calibrate": True}
LONG = dataclasses.replace(GREEDY, ignore_end=True)
#: Log-probabilities that differ by less may change places where steps of another size round differently.
AS_GOOD = 0.05
GRAMMAR = "root ::= [a-z]+"


@pytest.fixture(scope="module")
def alone(model_file):
    """One slot on the GPU: what a reply is when nothing else runs."""
    engine = LlamaChatEngine(config_for(model_file, parallel=1, device_cut=0, **GPU))
    yield engine
    engine.close()


def requests(count, **options):
    return [request_for(some_tokens(20 + 37 * s, seed=s), sampling=LONG, **options) for s in range(count)]


def goes_the_same_way(reply, request, alone):
    """A reply is that of a slot alone, up to a token that was as good as another one there."""
    expected = ask(alone, dataclasses.replace(request, logprobs=2))
    if reply.text == expected.text:
        return True
    decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
    for i, entry in enumerate(expected.logprobs):
        text += decoder.decode(entry.bytes)
        if not reply.text.startswith(text):
            # A character takes up to four tokens here, and is shown with the last of them.
            parted = expected.logprobs[max(0, i - 3) : i + 1]
            return min(entry.top[0][1] - entry.top[1][1] for entry in parted) < AS_GOOD
    return False


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
@pytest.mark.parametrize(
    "changes",
    [{"device_cut": 128}, {"device_cut": 0, "sampling_threads": 4}, {"device_cut": 128, "prefill_delay": 24}],
    ids=["cut on the device", "threads", "delay"],
)
@pytest.mark.parametrize("late", [False, True], ids=["told at once", "told later"])
def test_replies_are_those_of_a_slot_alone(open_engine, alone, unified, changes, late):
    engine = open_engine(parallel=12, n_ctx=12 * 2048, n_batch=1024, kv_unified=unified, **GPU, **changes)
    engine._core._loop._publishes_late = late
    asked = requests(30, max_tokens=40)
    replies = [send(engine, request) for request in asked]
    for reply, request in zip(replies, asked, strict=True):
        assert reply.wait().completion_tokens == 40
        assert goes_the_same_way(reply, request, alone)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_requests_that_read_all_scores_run_beside_those_that_need_not(open_engine, alone, unified):
    engine = open_engine(parallel=4, n_ctx=4096, kv_unified=unified, device_cut=128, **GPU)
    asked = requests(12, max_tokens=24)
    for i in range(0, 12, 3):
        asked[i] = dataclasses.replace(asked[i], logprobs=3)
        asked[i + 1] = dataclasses.replace(asked[i + 1], grammar=GRAMMAR, sampling=GREEDY)
    replies = [send(engine, request) for request in asked]
    for reply, request in zip(replies, asked, strict=True):
        outcome = reply.wait()
        if request.grammar is not None:
            assert set(reply.text) <= set("abcdefghijklmnopqrstuvwxyz")
            continue
        assert goes_the_same_way(reply, request, alone)
        if request.logprobs is not None:
            assert len(reply.logprobs) == outcome.completion_tokens == 24
            assert all(entry.logprob <= 0 and len(entry.top) == 3 for entry in reply.logprobs)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_cancelled_requests_leave_every_slot_free(open_engine, unified):
    engine = open_engine(parallel=8, n_ctx=8 * 512, kv_unified=unified, device_cut=128, **GPU)
    chance = random.Random(5)
    replies = []
    for seed in range(120):
        replies.append(send(engine, request_for(some_tokens(10 + seed, seed=seed), sampling=LONG, max_tokens=60)))
        if chance.random() < 0.5:
            chance.choice(replies).ticket.cancel()
    ends = {"whole": 0, "cancelled": 0}
    for reply in replies:
        try:
            assert reply.wait().completion_tokens == 60
            ends["whole"] += 1
        except RequestCancelledError:
            ends["cancelled"] += 1
    assert min(ends.values()) > 10
    eventually(lambda: not any(slot["is_processing"] for slot in engine.slots()))


@pytest.mark.parametrize("name", ["internvl3", "qwen2vl", "gemma3"])
def test_images_are_seen(tmp_path, name):
    model = tiny.write_model(tmp_path / name, tiny.ARCHITECTURES[name])
    projector = model.with_name(f"mmproj-{model.name}")
    config = config_for(model, projector=projector, n_ctx=8192, n_batch=1024, n_ubatch=1024, parallel=6, **GPU)
    engine = LlamaChatEngine(config)
    try:

        def request(picture, seed):
            before, after = some_tokens(9, seed=seed).tolist(), some_tokens(6, seed=50 + seed).tolist()
            image = plain.draw(60 + 10 * picture, 80, picture)
            return engine.place(request_for([*before, *after], max_tokens=12), [PlacedImage(len(before), image)])

        expected = [ask(engine, request(picture, seed=1)) for picture in range(4)]
        beside = [send(engine, request(picture, seed=1)) for picture in range(4)]
        blind = ask(engine, request_for([*some_tokens(9, seed=1), *some_tokens(6, seed=51)], max_tokens=12))
        for reply in beside:
            reply.wait()
        assert sum(a.state == b.state for a, b in zip(beside, expected, strict=True)) >= 3
        assert all(reply.outcome.prompt_tokens > blind.outcome.prompt_tokens for reply in expected)
        assert len({reply.text for reply in [*expected, blind]}) > 1
    finally:
        engine.close()
