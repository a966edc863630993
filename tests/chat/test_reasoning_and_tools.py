"""Reasoning and tool calls through the whole path, in each format, and back into the conversation."""

from __future__ import annotations

import pytest

import tiny_chat

FORMATS = {"hermes": "Add them.", "seed_oss": "Add them up.", "llama3": ""}


@pytest.mark.parametrize("form", FORMATS)
def test_reasoning_answer_and_calls_are_told_apart(speakers, start, tool, form):
    reply = speakers[form].chat("What is 1 + 2?", **start(form, tools=[tool]))
    assert reply.reasoning == FORMATS[form]
    assert "<" not in reply.text
    (call,) = reply.tool_calls
    assert (call.id, call.name, call.arguments) == ("call_0", "add", {"a": 1, "b": 2})
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("form", FORMATS)
def test_the_stream_says_what_each_piece_is(speakers, start, tool, form):
    stream = speakers[form].stream("What is 1 + 2?", **start(form, tools=[tool]))
    pieces = list(stream)
    assert "".join(p for p in pieces if p.kind == "reasoning") == FORMATS[form]
    assert [p.tool_call for p in pieces if p.kind == "tool_call"] == list(stream.reply.tool_calls)
    assert all(p == "" for p in pieces if p.kind == "tool_call")
    assert all(p for p in pieces if p.kind != "tool_call")
    assert "".join(p for p in pieces if p.kind == "text") == stream.reply.text


@pytest.mark.parametrize("form", FORMATS)
def test_a_call_its_result_and_the_next_turn(speakers, start, tool, form):
    llm = speakers[form]
    messages = [{"role": "user", "content": "What is 1 + 2?"}]
    reply = llm.chat(messages, **start(form, tools=[tool]))
    before = llm.count_tokens(messages, tools=[tool])
    messages.append(reply.message)
    for call in reply.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(tool(**call.arguments))})
    after = llm.count_tokens(messages, tools=[tool])
    assert after > before + 10
    last = llm.chat(messages, **start("plain", tools=[tool]))
    assert (last.text, last.finish_reason) == ("Hello, world.", "stop")
    assert llm.count_tokens([*messages, last.message, {"role": "user", "content": "Thanks"}], tools=[tool]) > after


@pytest.mark.parametrize("form", FORMATS)
def test_without_tools_nothing_is_taken_for_a_call(speakers, start, form):
    reply = speakers[form].chat("hello", **start(form))
    assert reply.tool_calls == ()
    assert reply.finish_reason == "stop"
    assert "add" in reply.text


@pytest.mark.parametrize(("form", "tokens"), [("hermes", 8), ("seed_oss", 7), ("llama3", 2)])
def test_a_call_that_is_cut_short_is_text(speakers, start, tool, form, tokens):
    reply = speakers[form].chat("hello", **start(form, tools=[tool], max_tokens=tokens))
    assert reply.tool_calls == ()
    assert reply.finish_reason == "length"


def test_reasoning_that_is_cut_short_is_reasoning(speakers, start):
    reply = speakers["seed_oss"].chat("hello", **start("seed_oss", max_tokens=3))
    assert (reply.reasoning, reply.text, reply.finish_reason) == ("Add them up.", "", "length")


def test_reasoning_that_the_template_has_begun(speakers, start):
    stream = speakers["hermes"].stream("hello", **start("closing", chat_template_kwargs={"open": True}))
    pieces = list(stream)
    assert (stream.reply.reasoning, stream.reply.text) == ("so I add.", "Three.")
    assert pieces[0].kind == "reasoning"
    # Without the opening mark the model's text is its answer, and a mark that closes nothing is dropped.
    reply = speakers["hermes"].chat("hello", **start("closing"))
    assert reply.reasoning == ""
    assert "so I add." in reply.text


def test_a_template_without_reasoning_knows_no_marks(speakers, start):
    reply = speakers["chatml"].chat("hello", **start("hermes"))
    assert reply.reasoning == ""
    assert "Add them." in reply.text


def test_the_message_of_a_reply(speakers, start, tool):
    reply = speakers["hermes"].chat("hello", **start("hermes", tools=[tool]))
    assert reply.message == {
        "role": "assistant",
        "content": reply.text,
        "reasoning_content": "Add them.",
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}},
        ],
    }
    plain = speakers["hermes"].chat("hello", **start("plain"))
    assert plain.message == {"role": "assistant", "content": "Hello, world."}


def test_completion_tokens_count_reasoning_calls_and_the_end(speakers, start, tool):
    for form in FORMATS:
        reply = speakers[form].chat("hello", **start(form, tools=[tool]))
        assert reply.usage.completion_tokens == len(tiny_chat.SCRIPTS[form])


def test_tools_as_functions_and_as_dicts_are_the_same(speakers, start, tool):
    as_dict = {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
        },
    }
    llm = speakers["seed_oss"]
    one, other = (llm.chat("hello", **start("seed_oss", tools=[t])) for t in (tool, as_dict))
    assert one.tool_calls == other.tool_calls
    untyped = {"type": "function", "function": {"name": "add"}}
    assert llm.chat("hello", **start("seed_oss", tools=[untyped])).tool_calls[0].arguments == {"a": "1", "b": "2"}


def test_the_marks_show_in_logprobs(speakers, start, tool):
    reply = speakers["seed_oss"].chat("hello", **start("seed_oss", tools=[tool], logprobs=0))
    assert len(reply.logprobs) == reply.usage.completion_tokens
