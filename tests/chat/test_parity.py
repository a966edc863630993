"""Six ways to ask, one answer: chat, stream and chat_many, and their async twins."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastinfer import LLM

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
OPTIONS = {
    "as the preset has it": {},
    "greedy": {"temperature": 0},
    "a few tokens": {"max_tokens": 3},
    "one token": {"max_tokens": 1},
    "whole vocabulary": {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.5},
    "penalties": {"repeat_penalty": 1.3, "repeat_last_n": -1, "frequency_penalty": 0.4, "presence_penalty": 0.3},
    "no penalties": {"repeat_penalty": 1.0},
    "a stop string": {"stop": "e"},
    "stop strings": {"stop": ["is", "a", " S", "\n"]},
    "schema": {"schema": SCHEMA, "max_tokens": 200},
    "grammar": {"grammar": 'root ::= ("ab" | "c")+ "!"'},
    "logprobs": {"logprobs": 3},
    "logprobs without alternatives": {"logprobs": 0, "stop": "o"},
    "biases": {"logit_bias": {60: 2.0, 61: -100.0}},
    "past the end": {"ignore_eos": True},
    "timeout": {"timeout": 60},
}
SPEECHES = {
    "plain": ("chatml", "plain", {}),
    "characters in halves": ("chatml", "split", {}),
    "a stop string in pieces": ("chatml", "stop", {"stop": "STOP"}),
    "hermes": ("hermes", "hermes", {"tools": True}),
    "hermes without tools": ("hermes", "hermes", {}),
    "hermes, reasoning begun": ("hermes", "closing", {"chat_template_kwargs": {"open": True}}),
    "hermes, cut short": ("hermes", "hermes", {"tools": True, "max_tokens": 8}),
    "seed_oss": ("seed_oss", "seed_oss", {"tools": True, "logprobs": 1}),
    "seed_oss with a budget": ("seed_oss", "seed_oss", {"thinking_budget": 512}),
    "seed_oss without thinking": ("seed_oss", "plain", {"thinking_budget": 0}),
    "llama3": ("llama3", "llama3", {"tools": True}),
    "schema": ("chatml", "json", {"schema": {"type": "object"}}),
}


async def every_way(llm, messages, options):
    """The reply of each way, and the pieces of the two that stream."""
    stream = llm.stream(messages, **options)
    pieces = list(stream)
    astream = llm.astream(messages, **options)
    apieces = [piece async for piece in astream]
    (many,) = llm.chat_many([messages], **options)
    (amany,) = [reply async for reply in llm.achat_many([messages], **options)]
    replies = {
        "chat": llm.chat(messages, **options),
        "achat": await llm.achat(messages, **options),
        "stream": stream.reply,
        "astream": astream.reply,
        "chat_many": many,
        "achat_many": amany,
    }
    return replies, [pieces, apieces]


async def check_every_way(llm, messages, options, same):
    replies, streamed = await every_way(llm, messages, options)
    expected = replies["chat"]
    for reply in replies.values():
        same(reply, expected)
    for pieces in streamed:
        assert "".join(p for p in pieces if p.kind == "text") == expected.text
        assert "".join(p for p in pieces if p.kind == "reasoning") == expected.reasoning
        assert tuple(p.tool_call for p in pieces if p.kind == "tool_call") == expected.tool_calls
    return expected


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_the_six_ways_agree(llm, options, same):
    for seed in range(3):
        asked = {"seed": seed, "max_tokens": 40, **options}
        messages = [{"role": "system", "content": "You are."}, {"role": "user", "content": f"What is {seed}?"}]
        reply = await check_every_way(llm, messages, asked, same)
        assert reply.seed == seed


@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
async def test_the_six_ways_agree_on_reasoning_calls_and_ends(speakers, start, tool, speech, same):
    template, script, options = speech
    options = start(script, seed=1, **options)
    if options.pop("tools", False):
        options["tools"] = [tool]
    reply = await check_every_way(speakers[template], "hello", options, same)
    assert reply.text or reply.reasoning or reply.tool_calls


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=60),
    seed=st.integers(0, 2**32 - 2),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    stop=st.lists(st.text(min_size=1, max_size=3), max_size=3),
)
def test_the_six_ways_agree_whatever_is_asked(llm, same, text, seed, temperature, stop):
    options = {"seed": seed, "temperature": temperature, "stop": stop, "max_tokens": 12}
    reply = asyncio.run(check_every_way(llm, text, options, same))
    assert not any(s in reply.text for s in stop)


async def test_many_at_once_give_what_each_gives_alone(llm, collect, same):
    questions = [f"hello {i} {'world ' * (i % 5)}" for i in range(24)]
    options = {"seed": 9, "max_tokens": 24}
    expected = [llm.chat(q, **options) for q in questions]
    tasks = await asyncio.gather(*[llm.achat(q, **options) for q in questions])
    streams = [llm.stream(q, **options) for q in questions]
    for stream in streams:
        list(stream)
    ways = [list(llm.chat_many(questions, **options)), await collect(llm.achat_many(questions, **options)), tasks]
    for replies in [*ways, [stream.reply for stream in streams]]:
        for reply, one in zip(replies, expected, strict=True):
            same(reply, one)


#: These return at once, so they need no twin.
IMMEDIATE = {"slots", "metrics", "engine_profile", "count_tokens"}


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_every_method_that_waits_has_its_async_twin():
    methods = public(name for name, _ in inspect.getmembers(LLM, callable))
    asynchronous = {name for name in methods if name.startswith("a")}
    assert {f"a{name}" for name in methods - asynchronous - IMMEDIATE} == asynchronous


@pytest.mark.parametrize("name", ["chat", "stream", "close"])
def test_twins_take_the_same_arguments(name):
    def arguments(method):
        return [(p.name, p.default, p.kind, p.annotation) for p in inspect.signature(method).parameters.values()]

    assert arguments(getattr(LLM, name)) == arguments(getattr(LLM, f"a{name}"))


def test_the_asynchronous_chat_many_takes_asynchronous_conversations_too():
    one, other = inspect.signature(LLM.chat_many).parameters, inspect.signature(LLM.achat_many).parameters
    assert [(p.name, p.default, p.kind) for p in one.values()] == [(p.name, p.default, p.kind) for p in other.values()]
    assert "AsyncIterable" in other["conversations"].annotation


def test_the_synchronous_methods_work_inside_a_running_loop(llm, same):
    async def cell():
        return llm.chat("hello", seed=1), list(llm.chat_many(["hello"], seed=1)), list(llm.stream("hello", seed=1))

    reply, (other,), pieces = asyncio.run(cell())
    same(reply, other)
    assert "".join(pieces) == reply.text
