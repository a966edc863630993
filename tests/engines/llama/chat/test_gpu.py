"""The engine on a GPU: what is different there changes no reply. Steps of other sizes round differently there."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import sys
from pathlib import Path

import pytest
from chat_tools import (
    GREEDY,
    PLAIN,
    LlamaChatEngine,
    ask,
    config_for,
    eventually,
    request_for,
    send,
    some_tokens,
)

from fastinfer.engines.chat import PlacedImage
from fastinfer.errors import RequestCancelledError

pytestmark = pytest.mark.gpu

GPU = {"n_gpu_layers": -1, "device": "CUDA0", "calibrate": True}
LONG = dataclasses.replace(GREEDY, ignore_end=True)
GRAMMAR = "root ::= [a-z]+"


def _load_sibling(name):
    path = Path(__file__).parent.parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"chat_gpu_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(model_file):
    """One slot on the GPU: what a reply is when nothing else runs."""
    engine = LlamaChatEngine(config_for(model_file, parallel=1, device_cut=0, **GPU))
    yield engine
    engine.close()


def requests(count, **options):
    return [
        request_for(some_tokens(20 + 37 * s, seed=s), sampling=dataclasses.replace(PLAIN, seed=s), **options)
        for s in range(count)
    ]


def share_of_equal(replies, expected):
    equal = [a.state == b.state for a, b in zip(replies, expected, strict=True)]
    return sum(equal) / len(equal)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
@pytest.mark.parametrize(
    "changes",
    [{"device_cut": 128}, {"device_cut": 0, "sampling_threads": 4}, {"device_cut": 128, "prefill_delay": 24}],
    ids=["cut on the device", "threads", "delay"],
)
def test_replies_are_those_of_a_slot_alone(open_engine, alone, unified, changes):
    engine = open_engine(parallel=12, n_ctx=12 * 2048, n_batch=1024, kv_unified=unified, **GPU, **changes)
    assert engine._core._loop._publishes_late
    asked = requests(30, max_tokens=40)
    replies = [send(engine, request) for request in asked]
    for reply in replies:
        reply.wait()
    assert share_of_equal(replies, [ask(alone, request) for request in asked]) >= 0.8


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_requests_that_read_all_scores_run_beside_those_that_need_not(open_engine, alone, unified):
    engine = open_engine(parallel=4, n_ctx=4096, kv_unified=unified, device_cut=128, **GPU)
    asked = requests(12, max_tokens=24)
    for i in range(0, 12, 3):
        asked[i] = dataclasses.replace(asked[i], logprobs=3)
        asked[i + 1] = dataclasses.replace(asked[i + 1], grammar=GRAMMAR)
    replies = [send(engine, request) for request in asked]
    for i, (reply, request) in enumerate(zip(replies, asked, strict=True)):
        outcome = reply.wait()
        if request.logprobs is not None:
            assert len(reply.logprobs) == outcome.completion_tokens
            assert all(entry.logprob <= 0 and len(entry.top) == 3 for entry in reply.logprobs)
        if request.grammar is not None:
            assert set(reply.text) <= set("abcdefghijklmnopqrstuvwxyz"), f"reply {i}"
    assert share_of_equal(replies, [ask(alone, request) for request in asked]) >= 0.8


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
    tiny, plain = _load_sibling("tiny_models"), _load_sibling("plain_mtmd")
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
        assert share_of_equal(beside, expected) >= 0.75
        assert all(reply.outcome.prompt_tokens > blind.outcome.prompt_tokens for reply in expected)
        assert len({reply.text for reply in [*expected, blind]}) > 1
    finally:
        engine.close()
