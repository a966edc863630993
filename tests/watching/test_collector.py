"""What is told of engines at work, and that it is true."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from fastinfer.errors import EngineDeadError, ImageDecodeError, MessageError, PromptTooLongError, RequestCancelledError
from metrics_page import Page, page

prometheus = pytest.importorskip("prometheus_client", reason="needs the extra metrics")


def test_names_of_llama_server_are_complete(chat: Any):
    told = page()
    assert len(chat.metrics()) == 12
    assert {name for name in chat.metrics() if (name, "talker") in told} == set(chat.metrics())


def test_what_a_chat_model_did_is_told_as_its_own_metrics_and_replies_say(chat: Any, settled: Any):
    replies = list(chat.chat_many(["one", "two", "three"], max_tokens=20, ignore_eos=True))
    with pytest.raises(PromptTooLongError):
        chat.chat("word " * 2000)
    told = settled(lambda told: told["fastinfer:requests_total", "talker", "finished"] == 3)
    for name, value in chat.metrics().items():
        assert told[name, "talker"] == value, name
    assert told["llamacpp:tokens_predicted_total", "talker"] == sum(r.usage.completion_tokens for r in replies) == 60
    for name in ("time_to_first_token", "request_queue_time", "e2e_request_latency"):
        assert told[f"fastinfer:{name}_seconds_count", "talker"] == 3
    assert told["fastinfer:inter_token_latency_seconds_count", "talker"] == 60 - 3
    queued = sum(r.timings.queued_ms for r in replies) / 1e3
    assert told["fastinfer:request_queue_time_seconds_sum", "talker"] == pytest.approx(queued)
    first = queued + sum(r.timings.prompt_ms for r in replies) / 1e3
    assert told["fastinfer:time_to_first_token_seconds_sum", "talker"] == pytest.approx(first)
    between = sum(r.timings.predicted_ms for r in replies) / 1e3
    assert told["fastinfer:inter_token_latency_seconds_sum", "talker"] == pytest.approx(between)
    assert told["fastinfer:e2e_request_latency_seconds_sum", "talker"] == pytest.approx(first + between)
    assert told["fastinfer:slots", "talker"] == 2
    assert told["fastinfer:errors_total", "talker", "PromptTooLongError"] == 1
    assert told["fastinfer:requests_total", "talker", "failed"] == 0


def test_a_stream_that_is_left_counts_as_cancelled_and_a_refused_message_as_an_error(chat: Any, settled: Any):
    with chat.stream("hello", max_tokens=0, ignore_eos=True) as stream:
        next(stream)
        assert page()["llamacpp:requests_processing", "talker"] == 1
    with pytest.raises(MessageError):
        chat.stream([{"role": "nobody", "content": "hello"}])
    told = settled(lambda told: told["fastinfer:requests_total", "talker", "cancelled"] == 1)
    assert told["fastinfer:errors_total", "talker", "MessageError"] == 1
    assert ("fastinfer:errors_total", "talker", RequestCancelledError.__name__) not in told


@pytest.mark.parametrize("kv_unified", [True, False])
def test_the_cache_holds_the_tokens_of_what_runs_and_of_what_is_kept(
    open_chat: Callable[..., Any], settled: Any, kv_unified: bool
):
    with open_chat(alias="cache", kv_unified=kv_unified) as chat:
        assert page()["llamacpp:kv_cache_tokens", "cache"] == 0
        reply = chat.chat("What is the name of the world?", max_tokens=30, ignore_eos=True)
        told = settled(lambda told: told["llamacpp:requests_processing", "cache"] == 0)
    # The last token was not evaluated, for nothing follows it.
    tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens - 1
    cells = told["fastinfer:kv_cache_cells", "cache"]
    assert told["llamacpp:kv_cache_tokens", "cache"] == tokens
    assert 512 <= cells <= 1024
    assert told["llamacpp:kv_cache_usage_ratio", "cache"] == pytest.approx(tokens / cells)


def test_requests_that_give_up_their_room_are_counted(open_chat: Callable[..., Any], settled: Any):
    with open_chat(alias="tight", n_ctx=128, n_batch=128, n_ubatch=128, kv_unified=True) as chat:
        list(chat.chat_many(["one", "two"], max_tokens=70, ignore_eos=True))
        told = settled(lambda told: told["fastinfer:requests_total", "tight", "finished"] == 2)
    assert told["fastinfer:requests_preempted_total", "tight"] > 0


def test_what_a_classifier_did_is_told_as_its_results_say(fresh: Callable[..., Any], pictures: Any, settled: Any):
    classifier = fresh(labels=["a", "b"], workers=1, alias="looker")
    images = [*pictures, b"no image", *pictures]
    results = list(classifier.classify_many(images, errors="return"))
    done = [r.timings for r in results if r.ok]
    told = settled(lambda told: told["fastinfer:images_total", "looker"] == len(done) == 12)
    assert told["fastinfer:errors_total", "looker", "ImageDecodeError"] == 1
    for part in ("decode", "queue", "encode", "score"):
        spent = sum(getattr(t, {"queue": "queued_ms"}.get(part, f"{part}_ms")) for t in done) / 1e3
        assert told[f"fastinfer:image_{part}_seconds_count", "looker"] == 12
        assert told[f"fastinfer:image_{part}_seconds_sum", "looker"] == pytest.approx(spent), part
    assert told["fastinfer:image_batch_size_sum", "looker"] == sum(t.batch_size for t in done)
    assert told["fastinfer:image_latency_seconds_sum", "looker"] > told["fastinfer:image_decode_seconds_sum", "looker"]
    assert nothing_left(told, "looker")
    assert not any(name.startswith("llamacpp:") and "looker" in labels for name, *labels in told)


@pytest.mark.parametrize("reproducible", [False, True])
def test_an_abandoned_stream_leaves_nothing_in_work(
    fresh: Callable[..., Any], pictures: Any, settled: Any, reproducible: bool
):
    classifier = fresh(labels=["a", "b"], workers=1, decode_workers=2, alias="left")
    stream = classifier.classify_many(pictures * 20, reproducible=reproducible)
    next(stream)
    stream.close()
    told = settled(lambda told: nothing_left(told, "left"))
    assert 1 <= told["fastinfer:images_total", "left"] < 120
    classifier.close()
    assert page()["fastinfer:images_total", "left"] == told["fastinfer:images_total", "left"]


async def test_images_of_every_way_in_are_counted_once(fresh: Callable[..., Any], pictures: Any, settled: Any):
    classifier = fresh(labels=["a", "b"], workers=1, alias="ways")
    classifier.classify(pictures[0])
    classifier.classify(pictures[0], timeout=30, wait=False)
    await classifier.aclassify(pictures[0])
    await classifier.aclassify(pictures[0], wait=False)
    assert len([r async for r in classifier.aclassify_many(pictures)]) == 6
    assert len(list(classifier.classify_many(pictures, reproducible=True))) == 6
    for source in (b"bad", b"worse"):
        with pytest.raises(ImageDecodeError):
            classifier.classify(source)
    with pytest.raises(ImageDecodeError):
        await classifier.aclassify(b"bad")
    told = settled(lambda told: told["fastinfer:images_total", "ways"] == 16 and nothing_left(told, "ways"))
    assert told["fastinfer:errors_total", "ways", "ImageDecodeError"] == 3
    assert told["fastinfer:images_cancelled_total", "ways"] == 0


def test_two_engines_are_told_of_by_their_aliases(open_chat: Callable[..., Any], chat: Any, settled: Any):
    with open_chat(alias="other") as other:
        chat.chat("hello", max_tokens=3, ignore_eos=True)
        other.chat("hello", max_tokens=5, ignore_eos=True)
        told = settled(lambda told: told["fastinfer:requests_total", "other", "finished"] == 1)
    assert told["llamacpp:tokens_predicted_total", "other"] == 5
    ran = other.provenance
    [info] = [labels for name, *labels in told if name == "fastinfer:engine_info" and "other" in labels]
    assert {"chat", ran.engine, ran.model, ran.preset, ran.fingerprint, ran.device} <= set(info)


def test_counters_go_on_when_an_engine_is_closed_and_another_takes_its_name(
    open_chat: Callable[..., Any], settled: Any
):
    before: Page = {}
    for turn in (1, 2, 3):
        with open_chat(alias="counted") as chat:
            chat.chat("hello", max_tokens=10, ignore_eos=True)
            settled(lambda told, turn=turn: told["fastinfer:requests_total", "counted", "finished"] == turn)
        told = page()
        assert told["llamacpp:tokens_predicted_total", "counted"] == 10 * turn
        assert told["fastinfer:time_to_first_token_seconds_count", "counted"] == turn
        fallen = {key for key, value in before.items() if "counted" in key and told.get(key, 0) < value}
        assert not fallen
        assert ("fastinfer:slots", "counted") not in told, "what is about now ends with the engine"
        before = told


def test_a_chat_model_that_takes_a_classifiers_name_adds_to_its_errors(
    fresh: Callable[..., Any], open_chat: Callable[..., Any], settled: Any
):
    with fresh(labels=["a", "b"], alias="both", workers=1) as classifier, pytest.raises(ImageDecodeError):
        classifier.classify(b"no image")
    with open_chat(alias="both") as chat, pytest.raises(MessageError):
        chat.chat([])
    told = settled(lambda found: found["fastinfer:errors_total", "both", "MessageError"] == 1)
    assert told["fastinfer:errors_total", "both", "ImageDecodeError"] == 1


def test_work_that_closing_cuts_off_is_counted_as_failed(open_chat: Callable[..., Any]):
    chat = open_chat(alias="cut off")
    stream = chat.stream("hello", max_tokens=0, ignore_eos=True)
    next(stream)
    chat.close()
    told = page()
    assert told["fastinfer:requests_total", "cut off", "failed"] == 1
    assert told["fastinfer:errors_total", "cut off", EngineDeadError.__name__] == 1


def test_a_registry_refuses_a_second_collector():
    from fastinfer.watching import Collector

    registry = prometheus.CollectorRegistry()
    registry.register(Collector())
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector())


def test_counting_needs_no_prometheus_client(run_python: Callable[..., subprocess.CompletedProcess[str]]):
    code = """
import sys
sys.modules["prometheus_client"] = None
import fastinfer
from PIL import Image
with fastinfer.classifier(labels=["a", "b"], workers=1) as classifier:
    classifier.classify(Image.new("RGB", (9, 9)))
try:
    fastinfer.serve_metrics(0)
except fastinfer.errors.FastInferError as error:
    sys.exit(0 if "fastinfer[metrics]" in error.hint else 3)
sys.exit(4)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def nothing_left(told: Page, alias: str) -> bool:
    """No image waits or is in work."""
    stages = [told["fastinfer:images_in_work", alias, stage] for stage in ("decoding", "engine")]
    return [told["fastinfer:images_waiting", alias], *stages] == [0, 0, 0]
