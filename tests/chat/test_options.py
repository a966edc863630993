"""The options of a chat: what they do, what is legal, and what is said where one is not."""

from __future__ import annotations

import math
import threading
import time

import pytest

from fastinfer.errors import MessageError, PresetError, RequestTimeoutError, SchemaError

ILLEGAL = [
    ("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", "5"), ("max_tokens", 2**40),
    ("temperature", -0.1), ("temperature", "hot"), ("temperature", math.nan), ("temperature", math.inf),
    ("top_p", 1.1), ("top_p", -0.1), ("top_k", -1), ("top_k", 0.5), ("min_p", 2),
    ("repeat_penalty", 0), ("repeat_last_n", -2), ("frequency_penalty", 2.5), ("presence_penalty", -3),
    ("seed", -1), ("seed", 2**32 - 1), ("seed", 1.0), ("seed", True), ("seed", "1"),
    ("stop", ""), ("stop", ["a", ""]), ("stop", [1]), ("stop", b"x"), ("stop", {"a"}), ("stop", 3),
    ("thinking_budget", -2), ("thinking_budget", 0.5),
    ("timeout", 0), ("timeout", -1), ("timeout", math.inf), ("timeout", math.nan), ("timeout", "1"),
    ("timeout", 10**400), ("timeout", True), ("logprobs", -1), ("logprobs", 101), ("logprobs", True), ("logprobs", 2.0),
    ("logit_bias", [1]), ("logit_bias", {"hello": 1}), ("logit_bias", {-1: 1}), ("logit_bias", {2**31: 1}),
    ("logit_bias", {True: 1}), ("logit_bias", {1: math.nan}), ("logit_bias", {1: math.inf}), ("logit_bias", {1: None}),
    ("logit_bias", {1: "high"}), ("logit_bias", {1: 10**400}), ("logit_bias", {1: 1e39}), ("logit_bias", {1: True}),
    ("ignore_eos", "yes"), ("ignore_eos", 1),
    ("chat_template_kwargs", [1]), ("chat_template_kwargs", {1: 2}), ("chat_template_kwargs", {"messages": []}),
    ("chat_template_kwargs", {"tools": []}), ("chat_template_kwargs", {"add_generation_prompt": False}),
    ("chat_template_kwargs", {"self": 1}), ("chat_template_kwargs", {"bos_token": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ILLEGAL, ids=lambda value: repr(value)[:30])
async def test_an_illegal_value_is_a_preset_error_that_names_the_option(llm, name, value):
    options = {name: value}
    for ask in (llm.chat, llm.stream, llm.astream, llm.count_tokens, lambda m, **o: llm.chat_many([m], **o)):
        with pytest.raises(PresetError, match=name):
            ask("hello", **options)
    with pytest.raises(PresetError, match=name):
        await llm.achat("hello", **options)
    with pytest.raises(PresetError, match=name):
        llm.achat_many(["hello"], **options)


def test_the_error_of_a_huge_value_is_short(llm):
    with pytest.raises(PresetError) as error:
        llm.chat("hello", stop=["a" * 100_000, ""])
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("temprature", "temperature"), ("max_token", "max_tokens"), ("shema", "schema"), ("topp", "top_p")],
)
def test_an_unknown_option_is_a_type_error_with_a_suggestion(llm, wrong, right):
    with pytest.raises(TypeError, match=f"unknown option '{wrong}'.*did you mean.*{right}"):
        llm.chat("hello", **{wrong: 1})


def test_an_option_like_no_other_gets_no_suggestion(llm):
    with pytest.raises(TypeError, match=r"unknown option 'xyz'$"):
        llm.chat("hello", xyz=1)


EVERY_NONE = [
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "frequency_penalty",
    "presence_penalty", "stop", "schema", "grammar", "tools", "thinking_budget", "chat_template_kwargs", "timeout",
    "logprobs", "logit_bias", "ignore_eos",
]  # fmt: skip


def test_none_is_as_the_preset_has_it(llm, same):
    nothing = dict.fromkeys(EVERY_NONE)
    same(llm.chat("hello", seed=3, **nothing), llm.chat("hello", seed=3))


def test_every_option_is_documented_and_may_be_none():
    from typing import get_type_hints

    from fastinfer import ChatOptions

    hints = get_type_hints(ChatOptions)
    assert set(hints) == {*EVERY_NONE, "seed"}
    for name, hint in hints.items():
        assert f"{name}" in ChatOptions.__doc__
        assert "None" in str(hint) or "Any" in str(hint)


def test_the_presets_values_are_the_defaults(fresh):
    changed = fresh(temperature=0.0, max_tokens=7, n_ctx=512)
    one, other = changed.chat("hello", ignore_eos=True), changed.chat("hello", ignore_eos=True)
    assert one.text == other.text
    assert one.usage.completion_tokens == 7
    assert one.finish_reason == "length"
    assert changed.chat("hello", ignore_eos=True, max_tokens=9).usage.completion_tokens == 9
    assert changed.chat("hello", ignore_eos=True, max_tokens=None).usage.completion_tokens == 7
    state = next(s for s in slots_while_busy(changed) if s["is_processing"])
    assert state["params"]["temperature"] == 0.0
    assert state["params"]["top_k"] == 60


def slots_while_busy(llm):
    with llm.stream("hello", max_tokens=0, ignore_eos=True) as stream:
        next(stream)
        return llm.slots()


def test_a_seed_reproduces_and_another_one_differs(llm):
    texts = [llm.chat("hello", seed=seed, ignore_eos=True, max_tokens=20).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_without_a_seed_every_reply_has_its_own_which_reproduces_it(llm, same):
    one, other = (llm.chat("hello", ignore_eos=True, max_tokens=20) for _ in range(2))
    assert one.seed != other.seed
    assert one.text != other.text
    same(llm.chat("hello", seed=one.seed, ignore_eos=True, max_tokens=20), one)


@pytest.mark.parametrize("seed", [0, 2**32 - 2])
def test_the_first_and_the_last_seed_are_seeds(llm, seed):
    assert llm.chat("hello", seed=seed, max_tokens=2).seed == seed


@pytest.mark.parametrize("stop", ["STOP", ["STOP"], ("nothing", "STOP"), ["two", "STOP"]])
def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(speakers, start, stop):
    reply = speakers["chatml"].chat("hello", **start("stop", stop=stop))
    assert reply.text == "one "
    assert reply.finish_reason == "stop"


def test_a_stop_string_that_does_not_come_changes_nothing(speakers, start):
    assert speakers["chatml"].chat("hello", **start("stop", stop="STOPPED")).text == "one STOP two three"


def test_a_templates_own_stop_strings_hold_beside_the_users(fresh, start):
    llm = fresh(script=True, chat_template="transcript", n_ctx=512)
    grammar = 'root ::= " Paris.\\nUser: And"'
    reply = llm.chat("hello", grammar=grammar)
    assert (reply.text, reply.finish_reason) == (" Paris.", "stop")
    assert llm.chat("hello", grammar=grammar, stop="ris").text == " Pa"


def test_no_limit_of_tokens_is_until_the_context_is_full(fresh):
    llm = fresh(n_ctx=256)
    for limit in (0, None):
        reply = llm.chat("hello", max_tokens=limit, ignore_eos=True)
        assert reply.usage.total_tokens == 256
        assert reply.finish_reason == "length"


def test_a_limit_beyond_the_context_is_the_contexts(fresh):
    assert fresh(n_ctx=256).chat("hello", max_tokens=100_000, ignore_eos=True).usage.total_tokens == 256


def test_ignoring_the_end_goes_on(llm):
    ended = [llm.chat("hello", seed=s, max_tokens=80).finish_reason for s in range(8)]
    assert "stop" in ended
    for seed in range(8):
        reply = llm.chat("hello", seed=seed, max_tokens=80, ignore_eos=True)
        assert (reply.finish_reason, reply.usage.completion_tokens) == ("length", 80)


@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_logprobs_are_those_of_every_token(llm, count):
    reply = llm.chat("hello", logprobs=count, temperature=0, ignore_eos=True, max_tokens=6)
    assert len(reply.logprobs) == reply.usage.completion_tokens == 6
    assert b"".join(entry.bytes for entry in reply.logprobs).decode(errors="replace") == reply.text
    for entry in reply.logprobs:
        assert entry.logprob < 0
        assert len(entry.top) == count
        numbers = [number for _, number in entry.top]
        assert numbers == sorted(numbers, reverse=True)
        if count:
            assert sum(map(math.exp, numbers)) <= 1 + 1e-6
    if count == 100:
        assert sum(math.exp(number) for _, number in reply.logprobs[0].top) > 0.3


def test_the_likeliest_token_heads_the_logprobs_of_a_greedy_reply(llm):
    reply = llm.chat("hello", logprobs=2, temperature=0, repeat_penalty=1.0, max_tokens=8)
    for entry in reply.logprobs:
        assert entry.top[0] == (entry.token, entry.logprob)


def test_logprobs_are_of_the_model_and_not_of_the_options(llm):
    plain = llm.chat("hello", logprobs=3, temperature=0, repeat_penalty=1.0, max_tokens=1).logprobs[0]
    bent = llm.chat("hello", logprobs=3, seed=1, temperature=2.0, top_k=1, max_tokens=1).logprobs[0]
    assert [t for t, _ in bent.top] == [t for t, _ in plain.top]
    assert bent.logprob == pytest.approx(plain.logprob, abs=1e-4)


def test_there_are_no_logprobs_unless_asked_for(llm):
    assert llm.chat("hello", max_tokens=1).logprobs is None


def test_a_bias_forces_a_token_and_forbids_one(llm, token):
    number = token(" wor")
    assert llm.chat("hello", logit_bias={number: 1000}, max_tokens=3, repeat_penalty=1.0).text == " wor" * 3
    greedy = {"temperature": 0, "max_tokens": 1, "ignore_eos": True}
    first = llm.chat("hello", logprobs=0, **greedy).logprobs[0].token
    for bias in (-math.inf, -1000):
        everything = dict.fromkeys(range(100), bias)
        assert llm.chat("hello", logit_bias=everything, **greedy).usage.completion_tokens == 1
    assert llm.chat("hello", logit_bias={number: -math.inf}, **greedy).text == first


def test_an_empty_mapping_of_biases_changes_nothing(llm, same):
    same(llm.chat("hello", seed=1, logit_bias={}), llm.chat("hello", seed=1))


def test_a_timeout_while_it_runs(llm, long, idle):
    begun = time.monotonic()
    with pytest.raises(RequestTimeoutError, match=r"after \d+ tokens") as error:
        llm.chat("hello", timeout=0.1, **long)
    assert time.monotonic() - begun < 3
    assert error.value.hint
    assert isinstance(error.value, TimeoutError)
    idle(llm)


def test_a_timeout_while_it_waits_for_a_slot(llm, busy):
    begun = time.monotonic()
    with pytest.raises(RequestTimeoutError, match="while it waited for a slot"):
        llm.chat("hello", timeout=0.05)
    assert time.monotonic() - begun < 3


async def test_timeouts_of_the_other_ways(llm, busy):
    with pytest.raises(RequestTimeoutError):
        await llm.achat("hello", timeout=0.05)
    with pytest.raises(RequestTimeoutError):
        list(llm.stream("hello", timeout=0.05))
    with pytest.raises(RequestTimeoutError):
        _ = [piece async for piece in llm.astream("hello", timeout=0.05)]
    with pytest.raises(RequestTimeoutError):
        list(llm.chat_many(["hello"], timeout=0.05))
    (failed,) = llm.chat_many(["hello"], timeout=0.05, errors="return")
    assert isinstance(failed.error, RequestTimeoutError)
    (failed,) = [reply async for reply in llm.achat_many(["hello"], timeout=0.05, errors="return")]
    assert isinstance(failed.error, RequestTimeoutError)


def test_a_stream_that_times_out_gives_what_there_was_first(llm, long):
    pieces = []
    stream = llm.stream("hello", timeout=0.2, **long)
    with pytest.raises(RequestTimeoutError):
        pieces.extend(stream)
    with pytest.raises(RequestTimeoutError):
        _ = stream.reply


def test_a_request_within_its_timeout_is_answered(llm, same):
    same(llm.chat("hello", seed=1, timeout=60), llm.chat("hello", seed=1))


def test_each_of_many_has_its_own_timeout(llm):
    def slow():
        for i in range(4):
            time.sleep(0.15)
            yield f"hello {i}"

    replies = list(llm.chat_many(slow(), timeout=0.5, max_tokens=2))
    assert [reply.error for reply in replies] == [None] * 4


def test_an_engine_that_hangs_is_not_waited_for_for_ever(llm, monkeypatch):
    from fastinfer.chat import pending

    monkeypatch.setattr(pending, "_GRACE", 0.0)
    gate = threading.Event()
    step = llm._engine._core._loop.step
    monkeypatch.setattr(llm._engine._core._loop, "step", lambda: (gate.wait(20), step())[1])
    try:
        for ask in (lambda: llm.chat("hello", timeout=0.05), lambda: list(llm.stream("hello", timeout=0.05))):
            with pytest.raises(RequestTimeoutError, match="has not answered for") as error:
                ask()
            assert error.value.hint
    finally:
        gate.set()


async def test_an_asynchronous_caller_does_not_wait_for_ever_either(llm, monkeypatch):
    from fastinfer.chat import pending

    monkeypatch.setattr(pending, "_GRACE", 0.0)
    gate = threading.Event()
    step = llm._engine._core._loop.step
    monkeypatch.setattr(llm._engine._core._loop, "step", lambda: (gate.wait(20), step())[1])
    try:
        with pytest.raises(RequestTimeoutError, match="has not answered for"):
            await llm.achat("hello", timeout=0.05)
        with pytest.raises(RequestTimeoutError, match="has not answered for"):
            _ = [piece async for piece in llm.astream("hello", timeout=0.05)]
    finally:
        gate.set()


def test_a_thinking_budget_reaches_the_template(speakers, start):
    seed = speakers["seed_oss"]
    free, some, none = (seed.count_tokens("hello", thinking_budget=budget) for budget in (-1, 512, 0))
    assert free == seed.count_tokens("hello")
    assert free < some
    assert free < none
    hermes = speakers["hermes"]
    assert hermes.count_tokens("hello", thinking_budget=0) > hermes.count_tokens("hello", thinking_budget=-1)


@pytest.mark.parametrize(("template", "budget"), [("chatml", 0), ("hermes", 512)])
def test_a_thinking_budget_that_the_template_does_not_know_is_refused(speakers, template, budget):
    with pytest.raises(MessageError, match="no thinking budget") as error:
        speakers[template].chat("hello", thinking_budget=budget)
    assert "chat_template_kwargs" in error.value.hint


def test_variables_reach_the_template(speakers):
    hermes = speakers["hermes"]
    assert hermes.count_tokens("hello", chat_template_kwargs={"open": True}) > hermes.count_tokens("hello")
    assert hermes.count_tokens("hello", chat_template_kwargs={}) == hermes.count_tokens("hello")
    with pytest.raises(MessageError, match="open"):
        hermes.chat("hello", chat_template_kwargs={"open": object()})


@pytest.mark.parametrize("tools", [[1], "add", [{}], {"type": "function"}, [{"type": "function", "function": {}}]])
def test_wrong_tools_are_message_errors_at_once(speakers, tools):
    for ask in (speakers["hermes"].chat, lambda m, **o: speakers["hermes"].chat_many([m], **o)):
        with pytest.raises(MessageError, match=r"[Tt]ool"):
            ask("hello", tools=tools)


def test_a_template_without_a_place_for_tools_says_so(llm, tool):
    with pytest.raises(MessageError, match="no place for tools"):
        llm.chat("hello", tools=[tool])


def test_no_tools_are_no_tools(llm, same):
    same(llm.chat("hello", seed=1, tools=[]), llm.chat("hello", seed=1))


def test_a_schema_and_a_grammar_do_not_go_together(llm):
    with pytest.raises(SchemaError, match="only follow one"):
        llm.chat("hello", schema={"type": "boolean"}, grammar='root ::= "a"')


def test_counting_tokens_counts_what_the_prompt_has(llm):
    for messages in ("hello", [{"role": "system", "content": "a"}, {"role": "user", "content": "hello world"}]):
        assert llm.count_tokens(messages) == llm.chat(messages, max_tokens=1).usage.prompt_tokens
