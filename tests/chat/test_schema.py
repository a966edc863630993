"""Answers that follow a schema or a grammar, also after reasoning, and what is said where they could not."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum

import pytest
from pydantic import BaseModel, Field

from fastinfer.errors import SchemaError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class City(BaseModel):
    name: str = Field(max_length=8)
    people: int = Field(ge=0, le=99)
    colour: Colour


@dataclasses.dataclass
class Point:
    x: bool
    y: bool


COUNTED = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"]}


def test_a_pydantic_model_comes_back_as_one(llm):
    for seed in range(4):
        reply = llm.chat("hello", schema=City, seed=seed, max_tokens=400)
        assert isinstance(reply.parsed, City)
        assert City.model_validate_json(reply.text) == reply.parsed
        assert reply.finish_reason == "stop"


def test_other_types_come_back_as_themselves(llm):
    assert isinstance(llm.chat("hello", schema=Point, seed=1).parsed, Point)
    assert isinstance(llm.chat("hello", schema=bool, seed=1).parsed, bool)
    assert llm.chat("hello", schema=Colour, seed=1).parsed in Colour


@pytest.mark.parametrize("form", [
    COUNTED,
    {"type": "json_schema", "json_schema": {"name": "n", "schema": COUNTED}},
])  # fmt: skip
def test_a_dict_comes_back_as_plain_data(llm, form):
    reply = llm.chat("hello", schema=form, seed=1)
    assert reply.parsed == json.loads(reply.text)
    assert 0 <= reply.parsed["n"] <= 9


def test_without_a_schema_nothing_is_parsed(llm):
    assert llm.chat("hello", max_tokens=2).parsed is None


async def test_a_reply_that_is_cut_short_is_a_schema_error_that_shows_its_end(speakers, start, collect):
    llm, options = speakers["chatml"], start("json", schema={"type": "object"}, max_tokens=3)
    for ask in (llm.chat, lambda m, **o: list(llm.chat_many([m], **o)), lambda m, **o: list(llm.stream(m, **o))):
        with pytest.raises(SchemaError, match=r"ended after 3 tokens, before it was complete.*people") as error:
            ask("hello", **options)
        assert "max_tokens" in error.value.hint
    with pytest.raises(SchemaError, match="before it was complete"):
        await llm.achat("hello", **options)
    with pytest.raises(SchemaError, match="before it was complete"):
        await collect(llm.astream("hello", **options))
    (failed,) = llm.chat_many(["hello"], errors="return", **options)
    assert isinstance(failed.error, SchemaError)


def test_a_stop_string_that_cuts_a_reply_short_is_named(speakers, start):
    with pytest.raises(SchemaError, match="stop string 'people'") as error:
        speakers["chatml"].chat("hello", **start("json", schema={"type": "object"}, stop="people"))
    assert error.value.hint


@pytest.mark.parametrize(
    "schema",
    [
        7,
        "string",
        True,
        [1],
        {"type": "nothing"},
        {"$ref": "http://example.com/x.json"},
        {"type": "json_schema"},
        print,
    ],
    ids=repr,
)
async def test_a_wrong_schema_is_a_schema_error_at_once(llm, schema):
    for ask in (llm.chat, llm.stream, llm.astream, lambda m, **o: llm.chat_many([m], **o)):
        with pytest.raises(SchemaError):
            ask("hello", schema=schema)
    with pytest.raises(SchemaError):
        await llm.achat("hello", schema=schema)


def test_a_grammar_is_followed(llm):
    for seed in range(5):
        reply = llm.chat("hello", grammar='root ::= ("yes" | "no") "."', seed=seed)
        assert reply.text in ("yes.", "no.")
        assert reply.finish_reason == "stop"
        assert reply.parsed is None


BROKEN = {
    "empty": "",
    "blank": "  \n",
    "no rule": "hello",
    "no root": 'answer ::= "a"',
    "unknown rule": "root ::= answer",
    "left recursion": 'root ::= root "a" | "b"',
    "unclosed": 'root ::= "a',
    "a zero": 'root ::= "a\0b"',
    "half a surrogate pair": 'root ::= "\ud800"',
    "bytes": b'root ::= "a"',
    "a number": 7,
    "too deep": "root ::= " + "(" * 100_000,
    "too long": 'root ::= "' + "a" * 300_000 + '"',
}


@pytest.mark.parametrize("grammar", BROKEN.values(), ids=BROKEN)
async def test_a_broken_grammar_is_a_schema_error_and_the_engine_lives_on(llm, grammar, same):
    expected = llm.chat("hello", seed=1)
    for ask in (llm.chat, llm.stream, llm.astream, lambda m, **o: llm.chat_many([m], **o)):
        with pytest.raises(SchemaError):
            ask("hello", grammar=grammar)
    with pytest.raises(SchemaError):
        await llm.achat("hello", grammar=grammar)
    same(llm.chat("hello", seed=1), expected)


def test_requests_with_and_without_a_schema_run_side_by_side(llm, same):
    expected = llm.chat("hello", seed=1, max_tokens=30, ignore_eos=True)
    streams = [llm.stream("hello", seed=1, max_tokens=30, ignore_eos=True) for _ in range(2)]
    checked = [llm.stream("hello", seed=seed, schema=Point) for seed in range(2)]
    for stream in streams + checked:
        list(stream)
    for stream in streams:
        same(stream.reply, expected)
    assert all(isinstance(stream.reply.parsed, Point) for stream in checked)


BOOLEAN = {"type": "boolean"}


def test_the_model_may_think_before_it_follows_the_schema(speakers, start):
    llm = speakers["hermes"]
    reply = llm.chat("hello", **start("hermes", schema=BOOLEAN))
    assert reply.reasoning == "Add them."
    assert reply.parsed is (reply.text == "true")
    assert reply.text in ("true", "false")


def test_it_need_not_think(speakers, start):
    reply = speakers["hermes"].chat("hello", **start("json", schema={"type": "object"}))
    assert reply.reasoning == ""
    assert reply.parsed == {"city": "Paris", "people": 2}


def test_reasoning_that_the_template_has_begun_is_free(speakers, start):
    kwargs = {"chat_template_kwargs": {"open": True}}
    reply = speakers["hermes"].chat("hello", **start("thought", schema=BOOLEAN, **kwargs))
    assert reply.reasoning == "I know it."
    assert reply.text in ("true", "false")
    assert isinstance(reply.parsed, bool)


@pytest.mark.parametrize("template", ["hermes", "seed_oss"])
def test_where_the_template_has_ended_the_reasoning_the_schema_holds_at_once(speakers, start, template):
    script = "hermes" if template == "hermes" else "seed_oss"
    reply = speakers[template].chat("hello", **start(script, schema=BOOLEAN, thinking_budget=0))
    assert reply.reasoning == ""
    assert isinstance(reply.parsed, bool)


def test_reasoning_that_never_ends_is_no_answer(speakers, start):
    kwargs = {"chat_template_kwargs": {"open": True}}
    with pytest.raises(SchemaError, match="before it was complete"):
        speakers["hermes"].chat("hello", **start("thought", schema=BOOLEAN, **kwargs, max_tokens=2))


def test_with_a_schema_the_answer_is_an_answer_and_no_call(speakers, start, tool):
    call = {"type": "object", "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}}}
    llama3 = speakers["llama3"]
    assert llama3.chat("hello", **start("json call", tools=[tool])).finish_reason == "tool_calls"
    reply = llama3.chat("hello", **start("json call", tools=[tool], schema=call))
    assert reply.tool_calls == ()
    assert reply.finish_reason == "stop"
    assert reply.parsed == {"name": "add", "parameters": {"a": 1}}


def test_tools_are_shown_beside_a_schema(speakers, tool):
    llm = speakers["hermes"]
    assert llm.count_tokens("hello", tools=[tool], schema=BOOLEAN) == llm.count_tokens("hello", tools=[tool])


def test_a_grammar_of_the_users_own_may_write_a_call(speakers, tool):
    grammar = r'root ::= "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": " [0-9] "}}\n</tool_call>"'
    reply = speakers["hermes"].chat("hello", grammar=grammar, tools=[tool], thinking_budget=0)
    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls[0].name == "add"


def test_options_that_forbid_what_the_grammar_needs_are_told_about(llm, same):
    expected = llm.chat("hello", seed=1)
    with pytest.raises(SchemaError):
        llm.chat("hello", grammar='root ::= "a"', ignore_eos=True)
    same(llm.chat("hello", seed=1), expected)
