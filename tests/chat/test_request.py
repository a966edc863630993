"""Conversations that have options of their own, among many."""

from __future__ import annotations

import pytest

from fastinfer import ChatRequest
from fastinfer.errors import PresetError


async def test_options_of_ones_own_go_before_those_for_all(llm, collect, same):
    common = {"seed": 1, "max_tokens": 6}
    asked = [
        "hello",
        ChatRequest("hello", {"max_tokens": 3}),
        ChatRequest("hello", {"seed": 2, "temperature": 1.5, "max_tokens": None}),
        ChatRequest([{"role": "user", "content": "hello"}]),
        ChatRequest("hello", {"schema": {"type": "boolean"}, "max_tokens": 40}),
    ]
    expected = [
        llm.chat("hello", **common),
        llm.chat("hello", seed=1, max_tokens=3),
        llm.chat("hello", seed=2, temperature=1.5, max_tokens=6),
        llm.chat("hello", **common),
        llm.chat("hello", seed=1, max_tokens=40, schema={"type": "boolean"}),
    ]
    for replies in (list(llm.chat_many(asked, **common)), await collect(llm.achat_many(asked, **common))):
        for reply, wanted in zip(replies, expected, strict=True):
            same(reply, wanted)


async def test_a_value_out_of_range_fails_alone_and_in_its_place(llm, collect):
    asked = [ChatRequest("hello"), ChatRequest("hello", {"temperature": -1}), "hello"]
    options = {"seed": 1, "max_tokens": 3, "errors": "return"}
    for replies in (list(llm.chat_many(asked, **options)), await collect(llm.achat_many(asked, **options))):
        assert [type(reply.error) for reply in replies] == [type(None), PresetError, type(None)]
        assert replies[0].text == replies[2].text


def test_an_option_that_does_not_exist_is_refused_at_once():
    with pytest.raises(TypeError, match="did you mean temperature"):
        ChatRequest("hello", {"temperatur": 1})
