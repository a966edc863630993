"""What clients of a chat model see: every reply as long as asked, nothing taken from earlier measurements."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import EngineDeadError, MessageError, PromptTooLongError
from fastinfer.measuring import measure_chat

PROMPTS = ["hello world", [{"role": "system", "content": "hello"}, {"role": "user", "content": "What is the name"}]] * 3


def test_every_reply_is_as_long_as_asked_though_the_model_would_end_it(llm: Any) -> None:
    figures = measure_chat(llm, PROMPTS, max_tokens=24)
    assert (figures.kind, figures.items, figures.errors, figures.tokens) == ("chat", 6, 0, 6 * 24)
    assert figures.throughput == pytest.approx(figures.tokens / figures.seconds)
    assert (figures.concurrency, figures.latency_load) == (4, "4 at a time")


def test_times_are_in_seconds_and_in_order(llm: Any) -> None:
    figures = measure_chat(llm, PROMPTS, max_tokens=24)
    assert figures.ttft_p50 is not None
    assert figures.ttft_p95 is not None
    assert figures.inter_token_p50 is not None
    assert figures.inter_token_p95 is not None
    assert 0 < figures.ttft_p50 <= figures.ttft_p95 <= figures.latency_p95 <= figures.latency_p99 <= figures.seconds
    assert 0 < figures.inter_token_p50 <= figures.inter_token_p95 < figures.latency_p50 <= figures.latency_p95


def test_prompts_are_gone_round_and_none_is_taken_from_the_cache_as_a_whole(llm: Any) -> None:
    # A number before the prompt leaves the template's first tokens to be shared, and no word of the prompt.
    prompt = "What is the name of the world? " * 8
    for _ in range(2):
        figures = measure_chat(llm, [prompt], max_tokens=2, concurrency=1, items=5)
        assert figures.items == 5
        assert figures.prompt_tokens > 5 * 60
        assert figures.cached_tokens < 5 * 12


def test_fewer_clients_than_slots_are_what_was_asked_for(llm: Any) -> None:
    figures = measure_chat(llm, PROMPTS[:2], max_tokens=4, concurrency=1)
    assert (figures.concurrency, figures.latency_load) == (1, "one at a time")


def test_parts_of_a_message_stay_what_they_are(llm: Any) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}]}]
    assert measure_chat(llm, [parts], max_tokens=2).items == 1


@pytest.mark.parametrize("bad", [7, [], [7], [{"role": "wizard", "content": "x"}], [{"role": "user"}]])
def test_a_prompt_that_fails_is_an_error_beside_the_others(llm: Any, bad: Any) -> None:
    figures = measure_chat(llm, ["hello", bad, "world"], max_tokens=2)
    assert (figures.items, figures.errors) == (2, 1)


def test_where_nothing_comes_the_first_error_does(llm: Any) -> None:
    with pytest.raises(PromptTooLongError):
        measure_chat(llm, ["hello " * 5000], max_tokens=2)
    with pytest.raises(MessageError, match="no prompts"):
        measure_chat(llm, [])


def test_a_closed_model_fails_at_once(babbler: Any, small_chat: fastinfer.Preset) -> None:
    closed = fastinfer.llm(small_chat, model=babbler)
    closed.close()
    with pytest.raises(EngineDeadError):
        measure_chat(closed, ["hello"])


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread are POSIX's")
def test_ctrl_c_ends_it_and_leaves_no_reply_running(llm: Any) -> None:
    main = threading.main_thread().ident
    threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        measure_chat(llm, ["hello"], max_tokens=400, items=400)
    assert time.perf_counter() - began < 5
    assert llm.metrics()["llamacpp:requests_deferred"] == 0
    assert measure_chat(llm, ["hello"], max_tokens=2).items == 1


def test_ctrl_c_that_python_loses_ends_it_too(llm: Any, swallowed_interrupt: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_chat(llm, ["hello"], max_tokens=400, items=400)
    assert swallowed_interrupt
    assert measure_chat(llm, ["hello"], max_tokens=2).items == 1
