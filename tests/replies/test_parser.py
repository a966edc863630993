"""Replies taken apart: reasoning, answer and tool calls, the same however the reply arrives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.replies.formats import ReplyFormat
from fastinfer.replies.parser import Part, ReasoningPart, ReplyParser, TextPart, ToolCallPart, parse_reply

THINK = ("<think>", "</think>")
FORMATS = {
    "plain": ReplyFormat(),
    "think": ReplyFormat(THINK),
    "hermes": ReplyFormat(THINK, "hermes"),
    "qwen_xml": ReplyFormat(THINK, "qwen_xml"),
    "seed_oss": ReplyFormat(("<seed:think>", "</seed:think>"), "seed_oss"),
    "llama3": ReplyFormat(None, "llama3"),
    "llama3-think": ReplyFormat(THINK, "llama3"),
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "exact": {"type": "boolean"},
                "range": {"type": ["number", "null"]},
                "hours": {"type": "array", "items": {"type": "integer"}},
                "more": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            },
        },
    },
}
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
XML = "<tool_call>\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n</function>\n</tool_call>"
SEED = (
    "<seed:tool_call>\n<function=weather>\n<parameter=city>Bonn</parameter>\n<parameter=days>3</parameter>\n"
    "</function>\n</seed:tool_call>"
)
LLAMA = '{"name": "weather", "parameters": {"city": "Bonn"}}'
CORPUS = [
    "Hello.",
    "\n\n",
    "<think>\nLet me see.\n</think>\n\nHello.\n",
    "<think>\n\n</think>\n\nHello.",
    " <think>a</think> b <think> c </think> d ",
    "<think>never closed \n",
    "a < b, <thin ice>, </thin",
    "<think>cut short </thi",
    f"I will look.\n\n{HERMES}\n{HERMES}\n",
    f"<think>which tool?</think>\n{HERMES} That was it.",
    "<tool_call>\n{broken\n</tool_call> and on",
    '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call> <think>"}}</tool_call>!',
    '<tool_call>{"name": "weather", "arguments": {"city": "open</tool_call> and then nothing',
    '<tool_call>{"name": "weather", "arguments": {}}',
    "<tool_call>{",
    XML,
    f"First.\n{XML}\n{XML}Last.",
    "<tool_call><function=weather><parameter=city>no end</function></tool_call>",
    f"<seed:think>a<seed:cot_budget_reflect>1 of 2 used.</seed:cot_budget_reflect>\nb</seed:think>\n{SEED}\n",
    LLAMA,
    f"<|python_tag|>{LLAMA}; {LLAMA}",
    f"{LLAMA}\n{LLAMA}\nDone.",
    '{"name": "Bob", "age": 3}',
    '{"name": "Bob", "parameters": "none"} is data',
    "<|python_tag|>print(1)",
    f"Sure. <|python_tag|>{LLAMA}",
    f"<think>hm</think>\n{LLAMA}",
    "{{ not JSON }}",
]
MARKS = [
    "<think>", "</think>", "<seed:think>", "</seed:think>", "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>",
    "<tool_call>", "</tool_call>", "<seed:tool_call>", "</seed:tool_call>", "<function=f>", "</function>",
    "<parameter=a>", "</parameter>", "<|python_tag|>", '{"name": "f", "arguments": {"a": "', '"}}', '{"name"', ": ",
    "{", "}", "[", "]", ",", ";", '"', "\\", "<", ">", "\n", " ", "a", "1", "é", "1e999", "NaN",
]  # fmt: skip
replies = st.one_of(
    st.sampled_from(CORPUS), st.lists(st.sampled_from(MARKS), max_size=14).map("".join), st.text(max_size=20)
)
cuts = st.lists(st.integers(1, 9), max_size=60)


def merged(parts: list[Part]) -> list[Part]:
    """Neighbours of the same kind as one."""
    found: list[Part] = []
    for part in parts:
        if found and isinstance(part, TextPart) and isinstance(found[-1], TextPart):
            found[-1] = TextPart(found[-1].text + part.text)
        elif found and isinstance(part, ReasoningPart) and isinstance(found[-1], ReasoningPart):
            found[-1] = ReasoningPart(found[-1].text + part.text)
        else:
            found.append(part)
    return found


def parse(text: str, form: str, sizes: list[int] | None = None, **options: Any) -> list[Part]:
    """The merged parts of ``text`` cut into pieces of these sizes."""
    parser = ReplyParser(FORMATS[form], **options)
    parts: list[Part] = []
    for size in sizes or []:
        parts += parser.push(text[:size])
        text = text[size:]
    return merged(parts + parser.push(text) + parser.finish())


def everything(parts: list[Part]) -> str:
    """All that came back, without white space."""
    texts = [part.call.raw if isinstance(part, ToolCallPart) else part.text for part in parts]
    return "".join("".join(texts).split())


def without_marks(text: str, form: str) -> str:
    """What must come back of ``text``: all but white space and the marks of reasoning."""
    budget = ("<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>")
    for mark in (*(FORMATS[form].reasoning or ()), *budget):
        text = text.replace(mark, "")
    return "".join(text.split())


@settings(deadline=None, max_examples=examples(1000))
@given(replies, st.sampled_from(list(FORMATS)), st.booleans(), st.booleans(), cuts)
def test_the_parts_do_not_depend_on_how_the_reply_arrives(
    text: str, form: str, in_reasoning: bool, tools: bool, sizes: list[int]
) -> None:
    options = {"in_reasoning": in_reasoning, "tools": tools}
    assert parse(text, form, sizes, **options) == parse(text, form, **options)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", CORPUS)
def test_the_corpus_character_by_character(text: str, form: str) -> None:
    for tools in (False, True, [WEATHER]):
        assert parse(text, form, [1] * len(text), tools=tools) == parse(text, form, tools=tools)


@settings(deadline=None, max_examples=examples(1000))
@given(replies, st.sampled_from(list(FORMATS)), st.booleans(), st.booleans())
def test_nothing_is_lost(text: str, form: str, in_reasoning: bool, tools: bool) -> None:
    parts = parse(text, form, in_reasoning=in_reasoning, tools=tools)
    # Marks inside calls stay in the raw text, so both sides are compared without them; semicolons separate calls.
    ours, all_of_it = (without_marks(found, form) for found in (everything(parts), text))
    assert ours.replace(";", "") == all_of_it.replace(";", "")


@pytest.mark.parametrize("text", CORPUS)
def test_a_model_without_marks_says_what_it_says(text: str) -> None:
    assert parse(text, "plain", tools=True) == [TextPart(text)]


def test_reasoning_is_taken_apart_and_stripped() -> None:
    assert parse("<think>\n\nLet me\nsee.\n</think>\n\nHello.\n", "think") == [
        ReasoningPart("Let me\nsee."),
        TextPart("Hello.\n"),
    ]


def test_reasoning_that_the_prompt_opened() -> None:
    assert parse("Let me see.\n</think>\nHello.", "think", in_reasoning=True) == [
        ReasoningPart("Let me see."),
        TextPart("Hello."),
    ]


def test_reasoning_that_the_prompt_opened_and_the_model_again() -> None:
    assert parse("<think>\nHm.</think>Yes", "think", in_reasoning=True) == [ReasoningPart("Hm."), TextPart("Yes")]


def test_empty_reasoning_is_none() -> None:
    assert parse("<think>\n\n</think>\n\nHello.", "think") == [TextPart("Hello.")]


def test_reasoning_without_an_end_is_all_reasoning() -> None:
    assert parse("<think>and so </thi", "think") == [ReasoningPart("and so </thi")]


def test_reasoning_goes_out_as_it_comes() -> None:
    parser = ReplyParser(FORMATS["think"])
    assert parser.push("<think>\nLet") == [ReasoningPart("Let")]
    assert parser.push(" me </") == [ReasoningPart(" me")]
    assert parser.push("b> </think>\n") == [ReasoningPart(" </b>")]
    assert parser.push("\nYes") == [TextPart("Yes")]


def test_second_thoughts_are_a_second_paragraph() -> None:
    reply = parse_reply("<think>a</think>b <think>c</think>d", FORMATS["think"])
    assert (reply.reasoning, reply.text) == ("a\n\nc", "b d")


def test_the_notes_on_the_budget_stay_in_the_reasoning() -> None:
    text = "<seed:think>a <seed:cot_budget_reflect>1 of 2 used.</seed:cot_budget_reflect> b</seed:think>c"
    assert parse(text, "seed_oss") == [ReasoningPart("a 1 of 2 used. b"), TextPart("c")]


@pytest.mark.parametrize(
    ("form", "call", "arguments"),
    [
        ("hermes", HERMES, {"city": "Bonn"}),
        ("qwen_xml", XML, {"city": "Bonn"}),
        ("seed_oss", SEED, {"city": "Bonn", "days": "3"}),
        ("llama3", LLAMA, {"city": "Bonn"}),
        ("llama3", "<|python_tag|>" + LLAMA, {"city": "Bonn"}),
    ],
)
def test_a_call_in_every_format(form: str, call: str, arguments: dict[str, Any]) -> None:
    reply = parse_reply(f"\n{call}\n", FORMATS[form], tools=True)
    (found,) = reply.tool_calls
    assert (found.id, found.name, found.arguments, found.raw, reply.text) == ("call_0", "weather", arguments, call, "")


@pytest.mark.parametrize(("form", "call"), [("hermes", HERMES), ("qwen_xml", XML), ("seed_oss", SEED)])
def test_text_around_calls_is_kept(form: str, call: str) -> None:
    reply = parse_reply(f"First.\n\n{call}\n{call}\nLast.", FORMATS[form], tools=True)
    assert [found.id for found in reply.tool_calls] == ["call_0", "call_1"]
    assert reply.text == "First.\n\nLast."


@pytest.mark.parametrize("between", ["; ", ";", "\n", "\n<|python_tag|>"])
def test_several_calls_of_llama3(between: str) -> None:
    reply = parse_reply(LLAMA + between + LLAMA, FORMATS["llama3"], tools=True)
    assert [found.id for found in reply.tool_calls] == ["call_0", "call_1"]
    assert reply.text == ""


@pytest.mark.parametrize("text", CORPUS)
def test_without_tools_calls_are_text(text: str) -> None:
    assert not any(isinstance(part, ToolCallPart) for form in FORMATS for part in parse(text, form))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "<tool_call>{broken}</tool_call>"),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1e999}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": ' + "1" * 5000 + "}}</tool_call>"),
        ("hermes", '<tool_call>{"name": "f", "arguments": ' + "[" * 100_000 + "</tool_call>"),
        ("hermes", '<tool_call>{"name": "f", "argu'),
        ("hermes", "<tool_call>"),
        ("qwen_xml", "<tool_call><function=f>and</function></tool_call>"),
        ("qwen_xml", "<tool_call><function=f><parameter=a>1</tool_call> b"),
        ("qwen_xml", "<tool_call><function= ></function></tool_call>"),
        ("seed_oss", "<seed:tool_call>f()</seed:tool_call>"),
        ("llama3", '{"name": "Bob", "age": 3}'),
        ("llama3", '{"name": "Bob"'),
        ("llama3", '{"name": "Bob", "parameters": 1} is data'),
        ("llama3", '{"name": "Bob"]'),
        ("llama3", "<|python_tag|>print(1)"),
        ("llama3", "{"),
        ("llama3", "{}"),
    ],
)
def test_what_cannot_be_read_as_a_call_is_text(form: str, text: str) -> None:
    assert parse(text, form, tools=True) == [TextPart(text)]


def test_a_call_whose_closing_mark_is_missing_at_the_end() -> None:
    (part,) = parse('<tool_call>{"name": "f", "arguments": {"a": 1}}\n', "hermes", tools=True)
    assert isinstance(part, ToolCallPart)
    assert part.call.arguments == {"a": 1}


def test_a_closing_mark_inside_a_value_closes_nothing() -> None:
    (part,) = parse('<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>', "hermes", tools=True)
    assert isinstance(part, ToolCallPart)
    assert part.call.arguments == {"a": "</tool_call>"}
    text = "<tool_call><function=f><parameter=a></parameter></tool_call></parameter></function></tool_call>"
    (part,) = parse(text, "qwen_xml", tools=True)
    assert isinstance(part, ToolCallPart)
    assert part.call.arguments == {"a": "</parameter></tool_call>"}


def test_a_broken_call_does_not_hide_the_next() -> None:
    parts = parse(f"<tool_call>{{broken</tool_call>{HERMES}", "hermes", tools=True)
    assert parts[0] == TextPart("<tool_call>{broken</tool_call>")
    assert isinstance(parts[1], ToolCallPart)


def test_of_equal_keys_the_last_counts() -> None:
    text = '<tool_call>{"name": "f", "name": "g", "arguments": {"a": 1, "a": 2}}</tool_call>'
    (call,) = parse_reply(text, FORMATS["hermes"], tools=True).tool_calls
    assert (call.name, call.arguments) == ("g", {"a": 2})


def test_arguments_may_be_json_in_a_string() -> None:
    text = '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'
    assert parse_reply(text, FORMATS["hermes"], tools=True).tool_calls[0].arguments == {"a": 1}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("city", "12", "12"),
        ("city", " Bonn ", " Bonn "),
        ("days", "3", 3),
        ("days", "3.0", 3),
        ("days", "three", "three"),
        ("days", "true", "true"),
        ("exact", "True", True),
        ("exact", "false", False),
        ("exact", "1", "1"),
        ("range", "1.5", 1.5),
        ("range", "None", None),
        ("range", "1e999", "1e999"),
        ("hours", "[1, 2]", [1, 2]),
        ("hours", "{}", "{}"),
        ("more", '{"a": {}}', {"a": {}}),
        ("unknown", "1", "1"),
    ],
)
@pytest.mark.parametrize("form", ["qwen_xml", "seed_oss"])
def test_values_have_the_type_the_tool_says(form: str, name: str, text: str, value: object) -> None:
    mark = "tool_call" if form == "qwen_xml" else "seed:tool_call"
    reply = f"<{mark}><function=weather><parameter={name}>{text}</parameter></function></{mark}>"
    found = parse_reply(reply, FORMATS[form], tools=[WEATHER]).tool_calls[0].arguments[name]
    assert (found, type(found)) == (value, type(value))


def test_tools_of_any_shape_do_no_harm() -> None:
    tools: list[Any] = [{}, {"function": None}, {"function": {"name": "f", "parameters": {"properties": {"a": 1}}}}, 3]
    reply = parse_reply(XML.replace("weather", "f"), FORMATS["qwen_xml"], tools=tools)
    assert reply.tool_calls[0].arguments == {"city": "Bonn"}


def test_llama3_holds_text_back_only_while_it_may_be_a_call() -> None:
    parser = ReplyParser(FORMATS["llama3"], tools=True)
    assert parser.push('{"na') == []
    assert parser.push('me": "Bob", "a') == []
    assert parser.push("ge") == [TextPart('{"name": "Bob", "age')]
    assert parser.push('": {') == [TextPart('": {')]
    assert ReplyParser(FORMATS["llama3"], tools=True).push("Hi {") == [TextPart("Hi {")]


def test_text_goes_out_at_once() -> None:
    parser = ReplyParser(FORMATS["hermes"], tools=True)
    assert [parser.push(piece) for piece in ("a", " <", "b", " ", "c")] == [
        [TextPart("a")], [], [TextPart(" <b")], [], [TextPart(" c")],
    ]  # fmt: skip


def test_a_whole_reply() -> None:
    reply = parse_reply(f"<think>Hm.</think>\nI look.\n{HERMES}", FORMATS["hermes"], tools=True)
    assert (reply.text, reply.reasoning, len(reply.tool_calls)) == ("I look.", "Hm.", 1)
    assert parse_reply("Yes", FORMATS["hermes"]).reasoning is None
